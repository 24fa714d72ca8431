"""The tables. Ids, digests, states and times only: no name, no date of birth, no value of any patient."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import DateTime, Dialect, TypeDecorator, func
from sqlmodel import Field, SQLModel


class AwareTime(TypeDecorator[datetime]):
    """An aware time, stored and returned in UTC: SQLite keeps no offset, and a naive time is refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 (SQLAlchemy's signature)
        """Raise ValueError for a time without offset."""
        if value is None:
            return None
        if value.utcoffset() is None:
            raise ValueError("a time without offset is not stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 (SQLAlchemy's signature)
        """Give the offset back."""
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


class PatientRow(SQLModel, table=True):
    """How often a patient was asked for and how often work on them began; requested > started means open work."""

    __tablename__ = "adjuvant_patient"
    patient_id: str = Field(primary_key=True, max_length=64)
    requested: int = 0
    started: int = 0


class CaseRow(SQLModel, table=True):
    """One case and what became of it.

    crashes: how often a worker died in one of its steps without getting further than crashed_after steps. begun_after:
    how many steps had finished when one was begun last; 0 when none was begun since the last death was counted. asked:
    when it was asked for, by the database's clock.
    """

    __tablename__ = "adjuvant_case"
    case_id: str = Field(primary_key=True, max_length=96)
    patient_id: str = Field(index=True, max_length=64)
    revision: int
    state: str = Field(index=True, max_length=16)
    reason: str = Field(default="", max_length=80)
    detail: str = Field(default="", max_length=500)
    assessment_id: str | None = Field(default=None, index=True, max_length=64)
    case_file: str | None = Field(default=None, max_length=64)
    resources: str = ""
    started: datetime | None = Field(default=None, sa_type=AwareTime)
    settled: datetime | None = Field(default=None, sa_type=AwareTime)
    crashes: int = 0
    crashed_after: int = 0
    begun_after: int = 0
    asked: datetime | None = Field(
        default=None, sa_type=AwareTime, sa_column_kwargs={"server_default": func.current_timestamp()}
    )


class WorkerRow(SQLModel, table=True):
    """One process that runs cases.

    seen: its last sign of life, by the database's clock. left: it stopped in order. place: host and process id.
    """

    __tablename__ = "adjuvant_worker"
    executor_id: str = Field(primary_key=True, max_length=64)
    seen: datetime = Field(sa_type=AwareTime)
    left: bool = False
    place: str = Field(default="", max_length=128)


class WatermarkRow(SQLModel, table=True):
    """How far a feed was read, in the server's own time.

    polled: when a look at it last ended well, by the database's clock.
    """

    __tablename__ = "adjuvant_watermark"
    feed: str = Field(primary_key=True, max_length=200)
    time: datetime = Field(sa_type=AwareTime)
    polled: datetime | None = Field(default=None, sa_type=AwareTime)


class RememberedRow(SQLModel, table=True):
    """What the next poll, or the next comparison of all records, must know of the last.

    kind: `person` (who is in the cohort) and `hash` (of a resource) for polls; `whole` (digest of a record) and `round`
    (how far a comparison is) for comparisons.
    """

    __tablename__ = "adjuvant_remembered"
    feed: str = Field(primary_key=True, max_length=200)
    kind: str = Field(primary_key=True, max_length=8)
    key: str = Field(primary_key=True, max_length=140)
    content: str = Field(max_length=80)
