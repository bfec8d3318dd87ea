"""Run migrations on the connection that the caller gives, inside its transaction."""

from alembic import context

from ccdflow.archive.registry.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()
