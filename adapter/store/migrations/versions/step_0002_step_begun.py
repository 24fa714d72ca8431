"""Which step of a case was begun last: a worker's death is held against a case only while one of its steps ran."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Cases of before count as not begun."""
    op.add_column("adjuvant_case", sa.Column("begun_after", sa.Integer, nullable=False, server_default="0"))
