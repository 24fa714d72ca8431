"""The `adjuvant` command: parses arguments, loads settings, calls the service, prints.

Exit codes: 0 done, 1 refused or incomplete, 2 usage or configuration, 3 a peer cannot be reached, 130 interrupted.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from adapter.cli import assess, backup, cases, model, overview, policy, service, stored
from adapter.cli.arguments import INCOMPLETE, UNREACHABLE, USAGE
from adapter.cli.logs import configure_logging
from adapter.errors import UNREACHABLE_PEER, AdjuvantError, Misconfigured
from adapter.printing import err, out
from inference.contract import BundleRefused

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, help=__doc__
)
for part in (service, assess, overview, backup, stored):
    app.add_typer(part.app)
for name, group in {"cases": cases, "model": model, "policy": policy}.items():
    app.add_typer(group.app, name=name)


def _print_version(wanted: bool) -> None:
    if wanted:
        out.print(f"adjuvant {version('adjuvant')}", markup=False)
        raise typer.Exit


@app.callback()
def _root(
    *,
    shown: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command; an error of ours becomes one sentence and its exit code, never a traceback."""
    configure_logging()
    try:
        app()
    except AdjuvantError as error:
        err.print(f"adjuvant: {type(error).__name__}: {error}", soft_wrap=True)
        sys.exit(_exit_code(error))
    except BundleRefused as error:
        err.print(f"adjuvant: the model bundle is refused: {error}", soft_wrap=True)
        sys.exit(USAGE)


def _exit_code(error: AdjuvantError) -> int:
    if isinstance(error, UNREACHABLE_PEER):
        return UNREACHABLE
    return USAGE if isinstance(error, Misconfigured) else INCOMPLETE
