"""What `store.url` names."""

from __future__ import annotations

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from adapter.errors import BadStore

_POSTGRESQL = "postgresql"


def database_address(written: str) -> URL:
    """The address with the driver that is installed. Raises BadStore unless it names SQLite or PostgreSQL."""
    try:
        address = make_url(written)
    except ArgumentError as error:
        raise BadStore("store.url is not the address of a database, as sqlite:///data/adjuvant.db") from error
    if address.drivername in {_POSTGRESQL, "postgres"}:
        return address.set(drivername=f"{_POSTGRESQL}+psycopg")
    if address.get_backend_name() not in {"sqlite", _POSTGRESQL}:
        raise BadStore(f"store.url names {address.get_backend_name()}: SQLite and PostgreSQL are known")
    return address


def is_postgresql(address: URL) -> bool:
    """Whether many processes may share it."""
    return address.get_backend_name() == _POSTGRESQL
