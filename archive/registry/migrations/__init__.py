"""Alembic migrations of the registry; `Registry.upgrade` runs them."""
