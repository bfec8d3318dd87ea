"""The registry: tables and statements on SQLite or PostgreSQL, and the doors to them."""
