"""The `adjuvant` command, as a module that imports nothing yet.

A process that only decides imports again what started its parent: with the command in it, it would import everything.
"""

from __future__ import annotations


def main() -> None:
    """Run the command."""
    from adapter.cli import main as run_command  # noqa: PLC0415 (the point of this module)

    run_command()


if __name__ == "__main__":
    main()
