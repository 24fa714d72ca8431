"""Alembic's entry: runs the steps on the connection that `adapter.store.database` gives, inside its transaction."""

from __future__ import annotations

from alembic import context
from sqlmodel import SQLModel

context.configure(connection=context.config.attributes["connection"], target_metadata=SQLModel.metadata)
context.run_migrations()
