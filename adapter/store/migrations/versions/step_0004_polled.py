"""When a look at each feed last ended well: where no process looks any more, every other one must be able to tell."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Polls of before are not known."""
    op.add_column("adjuvant_watermark", sa.Column("polled", sa.DateTime(timezone=True), nullable=True))
