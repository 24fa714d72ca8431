"""The first tables: patients and their cases, how far each feed was read, who works."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create every table of the first adjuvant."""
    _create_work()
    _create_feeds()


def _create_work() -> None:
    op.create_table(
        "adjuvant_patient",
        sa.Column("patient_id", sa.String(64), primary_key=True),
        sa.Column("requested", sa.Integer, nullable=False),
        sa.Column("started", sa.Integer, nullable=False),
    )
    op.create_table(
        "adjuvant_case",
        sa.Column("case_id", sa.String(96), primary_key=True),
        sa.Column("patient_id", sa.String(64), nullable=False, index=True),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False, index=True),
        sa.Column("reason", sa.String(80), nullable=False),
        sa.Column("detail", sa.String(500), nullable=False),
        sa.Column("assessment_id", sa.String(64), index=True),
        sa.Column("case_file", sa.String(64)),
        sa.Column("resources", sa.String, nullable=False),
        sa.Column("started", sa.DateTime(timezone=True)),
        sa.Column("settled", sa.DateTime(timezone=True)),
        sa.Column("crashes", sa.Integer, nullable=False),
        sa.Column("crashed_after", sa.Integer, nullable=False),
    )
    op.create_table(
        "adjuvant_worker",
        sa.Column("executor_id", sa.String(64), primary_key=True),
        sa.Column("seen", sa.DateTime(timezone=True), nullable=False),
        sa.Column("left", sa.Boolean, nullable=False),
    )


def _create_feeds() -> None:
    op.create_table(
        "adjuvant_watermark",
        sa.Column("feed", sa.String(200), primary_key=True),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "adjuvant_remembered",
        sa.Column("feed", sa.String(200), primary_key=True),
        sa.Column("kind", sa.String(8), primary_key=True),
        sa.Column("key", sa.String(140), primary_key=True),
        sa.Column("content", sa.String(80), nullable=False),
    )
