"""When each case was asked for: how long the oldest one has been waiting is the first thing a night shift asks."""

from __future__ import annotations

from typing import Literal

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Cases of before count as asked for now."""
    # SQLite adds no column whose default is a clock: the table is made again
    recreate: Literal["always", "never"] = "always" if op.get_bind().dialect.name == "sqlite" else "never"
    with op.batch_alter_table("adjuvant_case", recreate=recreate) as table:
        table.add_column(
            sa.Column("asked", sa.DateTime(timezone=True), nullable=True, server_default=sa.func.current_timestamp())
        )
