"""The clock that all processes share: the database's."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func
from sqlalchemy.orm import Session
from sqlmodel import select

from adapter.store.tables import AwareTime


def database_now(session: Session) -> datetime:
    """When the transaction began; in whole seconds on SQLite."""
    now: datetime = session.execute(select(func.current_timestamp(type_=AwareTime))).scalar_one()
    return now
