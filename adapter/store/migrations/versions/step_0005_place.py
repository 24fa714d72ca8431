"""Where each worker runs: a number that nobody has seen before does not tell which machine is silent."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Of workers of before it is not known."""
    op.add_column("adjuvant_worker", sa.Column("place", sa.String(128), nullable=False, server_default=""))
