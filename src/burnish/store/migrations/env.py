"""Run by Alembic: the revisions go through the connection and the transaction that the store opened."""

from __future__ import annotations

from alembic import context

from burnish.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
