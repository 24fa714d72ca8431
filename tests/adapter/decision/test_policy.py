"""The policy tables: shipped whole, overridden by key, refused by row."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapter.decision.policy import features_read, load_policy
from adapter.errors import BadMapping


def _site(folder: Path, table: str, text: str) -> Path:
    (folder / f"{table}.toml").write_text(text)
    return folder


def test_the_shipped_policy_is_whole() -> None:
    """Every action of the closed set is there, every rule and evidence row has its source."""
    policy = load_policy()
    closed_set = ["OBS", "PORT", "CRT_Q3W", "CRT_QW", "PORT_ALT", "CRT_NIVO", "PEMBRO_ADJ", "TRIAL", "RERESECT", "MDT"]
    assert [action.code for action in policy.actions] == closed_set
    assert all(rule.source for rule in policy.rules.values())


def test_every_feature_is_read_or_derives_something() -> None:
    """No row of the feature table is dead: a rule reads it, or something a rule reads is computed from it."""
    feeding = {"creatinine", "weight", "height", "cM", "pM", "lymphatic_invasion", "vascular_invasion"}
    other_panels = {"weight_loss_pct", "bmi"}
    context = {"hpv_dna", "nodes_examined"}  # shown to clinicians beside the rules, read by none yet
    assert set(load_policy().features) - features_read(load_policy()) == feeding | other_panels | context


def test_the_version_changes_with_every_threshold(tmp_path: Path) -> None:
    """A site's own threshold is another policy and so another assessment."""
    site = _site(tmp_path, "rules", "[parameters.crcl_60]\nvalue = 45\n")
    shipped, own = load_policy(), load_policy(site_folder=site)
    assert shipped.version != own.version
    assert shipped.digest != own.digest


@pytest.mark.parametrize("panel", ["porceddu_2020", "egypt_2023", "ctoo_2023"])
def test_each_panel_can_be_chosen(tmp_path: Path, panel: str) -> None:
    """Panels disagree: the site chooses one, and its criteria become the rules."""
    policy = load_policy(site_folder=_site(tmp_path, "rules", f'[choices.cisplatin_panel]\nvalue = "{panel}"\n'))
    assert "CIS-RENAL" in policy.rules
    assert policy.rules["CISPLATIN_OK"].source == policy.panel


@pytest.mark.parametrize(
    ("table", "text", "named"),
    [
        ("rules", '[choices.cisplatin_panel]\nvalue = "nobody"\n', "cisplatin_panel"),
        ("rules", "[parameters.fresh_days]\nvaleu = 3\n", "valeu"),
        ("rules", '[[rule]]\nid = "HIGH"\nwhen = { rule = "NOWHERE" }\n', "NOWHERE"),
        ("rules", '[[rule]]\nid = "HIGH-ENE"\nwhen = { rule = "HIGH" }\n', "refers to itself"),
        ("rules", '[[rule]]\nid = "INT-PT"\nwhen = { feature = "pT", in = ["T9"] }\n', "INT-PT"),
        ("rules", '[[rule]]\nid = "INT-PT"\nevidence = ["GOSSIP"]\n', "GOSSIP"),
        ("follow_up", '[[visit]]\nid = "FU-CLINIC-Y1"\nevery_months = 9\n', "FU-CLINIC-Y1"),
        ("regimens", '[[action]]\nid = "OBS"\notherwise = "fine"\n', "otherwise"),
        ("rules", "this is not TOML", "rules.toml"),
    ],
)
def test_a_wrong_row_is_refused_by_name(tmp_path: Path, table: str, text: str, named: str) -> None:
    """A table that cannot be meant never becomes a policy."""
    with pytest.raises(BadMapping, match=named):
        load_policy(site_folder=_site(tmp_path, table, text))


def test_an_adopted_millimetre_margin_makes_high_risk(tmp_path: Path) -> None:
    """The clause below 1 mm exists only where the site has adopted it."""
    site = _site(tmp_path, "rules", "[switches.adopt_positive_margin_mm]\nvalue = true\n")
    assert "margin_mm" in str(load_policy(site_folder=site).rules["HIGH"].when)
    assert "margin_mm" not in str(load_policy().rules["HIGH"].when)
