"""The house plan holds: one driver, one door; no clock, chance or environment in the core."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

_ROOT = Path(__file__).parent.parent
_DOORS = {
    "httpx": {"adapter/fhir/client.py", "adapter/fhir/auth.py"},
    "pynetdicom": {"adapter/dicom", "adapter/sandbox"},
    "pydicom": {"adapter/dicom", "adapter/sandbox"},
    "onnxruntime": {"inference/predictor.py", "training"},
    "sqlalchemy": {"adapter/store", "adapter/engine"},
    "sqlmodel": {"adapter/store"},
    "dbos": {"adapter/engine"},
    "torch": {"training"},
    "apscheduler": {"adapter/ticks.py"},
    "cryptography": {"adapter/store"},
    "alembic": {"adapter/store"},
    "uvicorn": {"adapter/web", "adapter/sandbox"},
    "fastapi": {"adapter/web", "adapter/sandbox"},
    "prometheus_client": {"adapter/web"},
    "msgspec": {
        "adapter/fhir",
        "adapter/page",
        "adapter/decision",
        "adapter/terminology.py",
        "adapter/pipeline/case_file.py",
    },
    "pint": {"adapter/units.py"},
    "ucumvert": {"adapter/units.py"},
    "gdcm": {"adapter/dicom"},
    "typer": {"adapter/cli"},
    "jinja2": {"adapter/page"},
    "reportlab": {"adapter/page"},
}
_CLOCK_ROOMS = {"adapter/rooms.py", "adapter/cli", "adapter/sandbox"}
_CORE = ("adapter/domain", "adapter/features", "adapter/decision", "adapter/fhir/decode.py", "adapter/fhir/encode")
_FORBIDDEN_NAMES = {"util", "utils", "helpers", "common", "misc", "base"}


@cache
def _sources() -> tuple[tuple[str, ast.Module], ...]:
    paths = [path for room in ("adapter", "inference", "training") for path in sorted((_ROOT / room).rglob("*.py"))]
    return tuple((path.relative_to(_ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))) for path in paths)


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def _attributes(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield ast.unparse(node)


def _imported_names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _within(path: str, rooms: set[str] | tuple[str, ...]) -> bool:
    return any(path == room or path.startswith(f"{room}/") for room in rooms)


@pytest.mark.parametrize("driver", _DOORS)
def test_one_driver_has_one_door(driver: str) -> None:
    """A library that talks to the outside is imported in its own room only."""
    strays = [
        path
        for path, tree in _sources()
        if any(name.split(".")[0] == driver for name in _imports(tree)) and not _within(path, _DOORS[driver])
    ]
    assert strays == []


def test_the_environment_is_read_in_settings_only() -> None:
    """No room reads the environment: what a site decides comes in as an argument."""
    readers = {"os.environ", "os.environb", "os.getenv"}
    strays = [path for path, tree in _sources() if readers & {*_attributes(tree), *_imported_names(tree)}]
    assert strays == ["adapter/settings.py"]


def test_the_wall_clock_is_read_at_the_top_only() -> None:
    """Time is passed in, so that the same data gives the same assessment for ever."""
    clocks = {"datetime.now", "datetime.utcnow", "date.today", "time.time", "time.time_ns", "datetime.today"}
    strays = [
        path
        for path, tree in _sources()
        if clocks & {*_attributes(tree), *_imported_names(tree)} and not _within(path, _CLOCK_ROOMS)
    ]
    assert strays == []


def test_the_core_has_neither_chance_nor_input_nor_output() -> None:
    """The pure rooms import nothing that reads, writes, waits or draws."""
    outside = {"random", "secrets", "uuid", "time", "socket", "subprocess", "logging", "structlog", "threading"}
    strays = [
        (path, name)
        for path, tree in _sources()
        if _within(path, _CORE)
        for name in _imports(tree)
        if name.split(".")[0] in outside
    ]
    assert strays == []


def test_no_file_is_named_for_having_no_job() -> None:
    """A file is named for its one job."""
    assert [path for path, _ in _sources() if Path(path).stem in _FORBIDDEN_NAMES] == []


def test_nothing_committed_names_a_machine_or_a_registry() -> None:
    """No path of a machine and no index address stands in a lock, a script or the build."""
    suspects = [*(_ROOT / "requirements").glob("*.txt"), *(_ROOT / "scripts").iterdir(), _ROOT / "Makefile"]
    words = ("--index-url", "--extra-index-url", "--find-links", "file://", str(Path.home()) + "/")
    assert [path.name for path in suspects for word in words if word in path.read_text(encoding="utf-8")] == []
