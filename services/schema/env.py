"""Alembic environment: runs the migrations on the connection of ``services.schema.migrate``."""

from alembic import context

from services.schema.models import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
