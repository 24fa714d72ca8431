"""The contract of the shipped model: clinical values as they are; every transformation happens inside the graph."""

from __future__ import annotations

from inference.contract import ModelContract, SequenceInput, StaticInput

NAME = "postoperative-ensemble"
VERSION = "1.0.1"
HORIZON_QUARTERS = 20
SEQUENCE_LENGTH = 32
METASTASIS = "metastasis"

_PT = {"pT0": 0.0, "pTis": 0.0, "pT1": 1.0, "pT2": 2.0, "pT3": 3.0, "pT4": 4.0, "pT4a": 4.0, "pT4b": 4.5}
_PN = {
    "pN0": 0.0, "pN1": 1.0, "pN2": 2.0, "pN2a": 2.0, "pN2b": 2.0, "pN2c": 2.5, "pN3": 3.0, "pN3a": 3.0, "pN3b": 3.0,
}  # fmt: skip
_SITES = ("oral_cavity", "oropharynx", "hypopharynx", "larynx", "unknown_primary")
_PRESENCE = {"absent": 0.0, "present": 1.0, "multiple": 1.0}
_LABORATORY = {
    "hgb": "g/dL", "wbc": "10*9/L", "neut": "10*9/L", "lymph": "10*9/L", "mono": "10*9/L", "eos": "10*9/L",
    "plt": "10*9/L", "rdw": "%",
}  # fmt: skip


def _coded(name: str, feature: str, levels: dict[str, float], *, required: bool = False) -> StaticInput:
    return StaticInput(name=name, feature=feature, levels=tuple(levels.items()), required=required)


def postoperative_contract(*, metastasis: bool = False) -> ModelContract:
    """Static values, laboratory sequence, and the fixed order of both.

    metastasis: with primary metastasis as a last entry, for comparison with earlier work only; never shipped.
    """
    static = (
        StaticInput(name="age_at_surgery", feature="age_at_surgery", unit="a", required=True),
        _coded("male", "sex", {"male": 1.0, "female": 0.0}),
        _coded("smoking_current", "smoking_status", {"current": 1.0, "former": 0.0, "never": 0.0}),
        _coded("smoking_never", "smoking_status", {"current": 0.0, "former": 0.0, "never": 1.0}),
        *(
            _coded(site, "site_group", {other: float(other == site) for other in _SITES}, required=site == _SITES[0])
            for site in _SITES
        ),
        _coded("p16", "p16", {"positive": 1.0, "negative": -1.0}),
        _coded("pT", "pT", _PT),
        _coded("pN", "pN", _PN),
        StaticInput(name="nodes_positive", feature="nodes_positive", unit="1"),
        StaticInput(name="depth_of_invasion", feature="depth_of_invasion", unit="mm"),
        _coded("ene", "ene_path", {"negative": 0.0, "micro": 1.0, "macro": 1.0, "positive": 1.0}),
        _coded("margin", "margin_class", {"R0": 0.0, "RX": 0.5, "R1": 1.0, "R2": 1.0}),
        _coded("lymphatic_invasion", "lymphatic_invasion", _PRESENCE),
        _coded("vascular_invasion", "vascular_invasion", _PRESENCE),
        _coded("lvi", "lvi", _PRESENCE),
        _coded("pni", "pni", _PRESENCE),
        _coded("grade", "grade", {"G1": 1.0, "G2": 2.0, "G3": 3.0, "G4": 4.0}),
        *((_coded(METASTASIS, "cM", {"cM0": 0.0, "cM1": 1.0}),) if metastasis else ()),
    )
    sequence = tuple(SequenceInput(name=name, feature=name, unit=unit) for name, unit in _LABORATORY.items())
    return ModelContract(
        model_name=NAME,
        model_version=VERSION,
        static=static,
        sequence=sequence,
        sequence_length=SEQUENCE_LENGTH,
        horizon_quarters=HORIZON_QUARTERS,
    )
