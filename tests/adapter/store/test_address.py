"""`store.url` is read once, the same way for the service, its backup and its roles."""

from __future__ import annotations

import pytest

from adapter.errors import BadStore
from adapter.store.address import database_address, is_postgresql


@pytest.mark.parametrize(
    "written", ["postgres://h/adjuvant", "postgresql://h/adjuvant", "postgresql+psycopg://h/adjuvant"]
)
def test_every_way_to_write_postgresql_means_the_driver_that_is_installed(written: str) -> None:
    """Breach: `postgres://` worked for the service and not for its backup."""
    address = database_address(written)
    assert (address.drivername, is_postgresql(address)) == ("postgresql+psycopg", True)


def test_sqlite_is_one_process_s() -> None:
    """The other kind that is known."""
    assert not is_postgresql(database_address("sqlite:///data/adjuvant.db"))


@pytest.mark.fault("F-48")
@pytest.mark.parametrize(
    ("written", "complaint"), [("data/adjuvant.db", "as sqlite:///data"), ("mysql://h/x", "names mysql")]
)
def test_anything_else_is_refused_by_name(written: str, complaint: str) -> None:
    """A path alone, or a database that nobody tried."""
    with pytest.raises(BadStore, match=complaint):
        database_address(written)
