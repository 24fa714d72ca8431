"""What each figure of the report says, in words that stand beneath it."""

from __future__ import annotations

from collections.abc import Iterator

_FIGURES = {
    "calibration": (
        "Forecast against observed risk",
        "Each point is a sixth of the held-out patients of the first repeat; observed by Kaplan-Meier. On the grey "
        "line forecasts are right on average; a curve steeper than it means that they are drawn too close together.",
    ),
    "decision": (
        "Net benefit",
        "Net benefit per patient of acting on the forecast, held out, against acting on everyone, on nobody, on a "
        "Cox model of stage, and on a rule without a model (pT3 or more, pN2 or more, extranodal extension, or a "
        "margin that is not free). The upper curve is the better policy at that threshold; it says nothing of what "
        "the action does.",
    ),
    "tertiles": (
        "Kaplan-Meier curves by third of the held-out forecast risk",
        "Held-out patients by third of their forecast at three years: the three groups part, which is "
        "discrimination, not calibration.",
    ),
    "subgroups": (
        "Concordance by subgroup",
        "Held-out concordance by subgroup with 95 % intervals by resampling patients. Where intervals overlap, "
        "these data cannot show that the model serves one group worse, and cannot rule it out. A group with fewer "
        "than twenty events is not scored.",
    ),
    "landmarks": (
        "C and AUC by landmark",
        "**Wrong disease, on purpose** (cirrhosis, leukaemia, HIV): no public head and neck data with repeated "
        "values are at hand. The gap between `entry only` and the rest is what an update at a later visit is worth; "
        "the bar for our net is Cox on the last observation and XGBoost asked at every visit. From the [landmark "
        "study](evaluation/landmarks.md).",
    ),
    "overlap": (
        "Propensity of treatment in TCGA-HNSC",
        "How likely each patient was to get the treatment they got, by their findings (ridge logistic regression, "
        "held out). Outside the dashed lines one arm is rarer than one in ten, and nobody could compare the arms "
        "there. Shown to say where a comparison would be empty; no effect is estimated from who was treated.",
    ),
    "policy": (
        "Policy value against abstention, simulated",
        "**Simulated** patients: what following the advice earns over what was done, from the most cautious advice "
        "(right) to advice for everyone (left). The gate asks for the dashed line at no more than 40 % abstention "
        "(grey). Whether it is met, and what stands in the way, is in the [treatment "
        "study](evaluation/treatment.md).",
    ),
    "examples": (
        "Three held-out patients",
        "Chosen by rule from the first repeat: at a tenth and at nine tenths of the forecast risk, and the least "
        "usual patient, whose forecast is withheld. Shaded: the band of refitted models, not what may befall one "
        "patient.",
    ),
}
FIGURES = tuple(_FIGURES)


def figure_lines(name: str) -> Iterator[str]:
    """The figure and its caption as Markdown."""
    title, caption = _FIGURES[name]
    yield f"![{title}](evaluation-{name}.svg)"
    yield ""
    yield f"*{title}.* {caption}"
    yield ""
