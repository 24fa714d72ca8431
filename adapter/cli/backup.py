"""`adjuvant backup` and `restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapter.cli.arguments import AsJson, Config
from adapter.printing import out, print_json
from adapter.rooms import wall_clock
from adapter.settings import load_settings
from adapter.store.backup import Manifest, require_restored, restore_backup, take_backup
from adapter.store.database import StoreLock
from adapter.store.vault import key_fingerprint, read_site_key

app = typer.Typer()


@app.command()
def backup(
    destination: Annotated[Path, typer.Argument(help="A folder that does not exist yet.")],
    config: Config,
    as_json: AsJson = False,
) -> None:
    """Copy ledger, queue and case files, also while the service runs. The site key is not in it: keep that apart."""
    store = load_settings(config).store
    require_restored(store.folder)  # a good-looking backup of an empty ledger would replace the whole one
    key = key_fingerprint(read_site_key(store.key_path))
    manifest = take_backup(store.url, store.vault_folder, destination, key=key, at=wall_clock())
    _print_backup(manifest, f"backed up to {destination}", as_json=as_json)


@app.command()
def restore(
    source: Annotated[Path, typer.Argument(help="A backup.")],
    config: Config,
    as_json: AsJson = False,
) -> None:
    """Put a backup back on an empty machine, where the site key lies already; every file is checked first."""
    store = load_settings(config).store
    key = key_fingerprint(read_site_key(store.key_path))
    with StoreLock(store.folder):
        manifest = restore_backup(source, store.url, store.folder, store.vault_folder, key=key)
    _print_backup(manifest, f"restored from {source}", as_json=as_json)


def _print_backup(manifest: Manifest, what: str, *, as_json: bool) -> None:
    if as_json:
        fields = ("taken", "database", "key", "case_files")
        print_json({name: getattr(manifest, name) for name in fields})
        return
    out.print(f"{what}: a {manifest.database} database and {manifest.case_files} case files, taken {manifest.taken}")
    out.print(f"the site key is not in it (fingerprint {manifest.key}): keep it apart")
