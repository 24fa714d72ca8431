"""`adjuvant policy`: the rules."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from adapter.cli.arguments import AsJson
from adapter.decision.case import evaluate_features, summary
from adapter.decision.policy import load_policy
from adapter.decision.show import policy_table
from adapter.errors import BadSettings
from adapter.fhir.delivery import OutputMode, load_delivery
from adapter.fhir.policy_export import export_policy
from adapter.printing import policy_rows, print_json, print_policy, print_verdict
from adapter.sandbox.hospital import sandbox_policy

app = typer.Typer(no_args_is_help=True, help="The rules.")

_SandboxRules = Annotated[bool, typer.Option("--sandbox", help="With the pretend hospital's declarations.")]


@app.command("show")
def policy_show(as_json: AsJson = False, sandbox_rules: _SandboxRules = False) -> None:
    """Every rule and action: when it holds and what it rests on."""
    rows = policy_table(load_policy(site_folder=sandbox_policy() if sandbox_rules else None))
    if as_json:
        print_json({"rows": policy_rows(rows)})
    else:
        print_policy(rows)


@app.command("export")
def policy_export(sandbox_rules: _SandboxRules = False) -> None:
    """The rules as FHIR R4: a PlanDefinition and an ActivityDefinition per action, with their citations."""
    site = sandbox_policy() if sandbox_rules else None
    content = export_policy(load_policy(site_folder=site), load_delivery(site_folder=site), OutputMode.RESEARCH)
    sys.stdout.write(content.decode() + "\n")


@app.command("try")
def policy_try(
    case: Annotated[Path, typer.Argument(help='{"features": {...}, "landmark": "..."}')],
    as_json: AsJson = False,
    sandbox_rules: _SandboxRules = False,
) -> None:
    """What the rules say about named features; an absent feature is unknown."""
    try:
        content = json.loads(case.read_text(encoding="utf-8"))
        features, landmark = content["features"], datetime.fromisoformat(content["landmark"])
    except OSError as error:
        raise BadSettings(f"cannot read {case}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadSettings(f"{case} is no case: it needs features and a landmark") from error
    policy = load_policy(site_folder=sandbox_policy() if sandbox_rules else None)
    verdict = summary(evaluate_features(features, landmark, policy))
    if as_json:
        print_json(verdict)
    else:
        print_verdict(verdict)
