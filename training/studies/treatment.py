"""Treatment: does the recommender keep quiet where a trial found nothing, and does it pay where benefit is known?

The contrast of chemoradiotherapy and radiotherapy is the published one, by cause of death; it is never estimated from
who was treated.
"""

from __future__ import annotations

from pathlib import Path

from training.cohorts import tcga_treatment
from training.cohorts.tcga_treatment import read_treatments
from training.studies import trial_nulls
from training.studies.effort import Effort
from training.studies.findings import Findings, digest_of_data
from training.studies.immortal_time import immortal_time
from training.studies.implied_effect import implied_effect
from training.studies.policy_value import confounding_bias, policy_value
from training.studies.simulated_trial import HANCOCK_FILES, read_causes

TCGA = "tcga_hnsc"


def study(data: Path, effort: Effort) -> Findings:
    """All four questions. data: the folder of the public research data."""
    causes = read_causes(data)
    answers = (
        trial_nulls.trial_nulls(data, effort),
        immortal_time(read_treatments(data / TCGA)),
        implied_effect(causes),
        policy_value(causes, effort),
    )
    files = (
        *(f"{trial_nulls.FOLDER}/{name}" for name in trial_nulls.FILES),
        *(f"{TCGA}/{name}" for name in tcga_treatment.FILES),
        *HANCOCK_FILES,
    )
    return Findings(
        slug="treatment",
        title="Treatment: randomised nulls, immortal time, implied effect, policy value (simulated)",
        data=digest_of_data(data, files),
        paragraphs=_PARAGRAPHS,
        gates=tuple(gate for answer in answers for gate in answer.gates),
        tables=(*(table for answer in answers for table in answer.tables), confounding_bias(causes, effort)),
    )


_PARAGRAPHS = (
    "The shipped service proposes treatment by guideline rules; no estimate on this page moves it. This page tests the "
    "code that would turn a trial's effect into advice for one patient, and whether it knows when to be silent: it "
    "acts only where benefit, or harm, is at least 95 % probable, a bound fixed beforehand.",
    "Effects come from randomised trials with their intervals, by cause of death (cancer 0.68, 0.55-0.83; other causes "
    "1.51, 1.07-2.12), never from who happened to be treated. The trials of gastric and colon cancer are another "
    "disease; they test code.",
    "Where landmark 0 makes radiotherapy look best, the treated had to live long enough to begin: that row is an error "
    "kept on purpose. Nobody should read an effect from the other rows either.",
    "The two priors give the trials' overall hazard ratio of 0.81 only where about 84 % of deaths are from cancer. "
    "HANCOCK tells cancer deaths from others but does not record treatment, so its hazards stand for radiotherapy "
    "alone, which they are not exactly: many of its high-risk patients will have had chemotherapy. Ten years were "
    "computed first; five, how far the shipped model looks, is what the gate reads, and both are shown. The gate fails "
    "for want of a treatment column, not for another reason that could be found: 73 % of the deaths of the trial-like "
    "are from cancer; were half of these patients given chemoradiotherapy already, their hazards under radiotherapy "
    "alone would imply a ratio inside the limits (second table). The share is not known, so the gate stays failed.",
    "Every number about policies is **simulated**: whole real covariate rows, hazards fitted by cause, treatment given "
    "by a confounded rule, effects drawn from the trials' intervals. As observed: each patient as the simulated "
    "physicians treated them; who gets no advice keeps that. The oracle knows every true benefit, the drawn effect "
    "included; the column beside it shows what the true prognosis with only the published effect earns, which is well "
    "below the oracle as well: about three fifths of the oracle's gain, so that no policy which takes its effects from "
    "trials, as ours must, can reach the gate of 70 %. The share of that reachable gain is shown beside it and gated "
    "alike; it fails too. "
    "The gate reads the most cautious line that still abstains on no more than 40 %: at the 95 % that the "
    "nulls demand, the published intervals are too wide to say anything for most.",
)
