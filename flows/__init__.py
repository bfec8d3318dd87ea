"""Prefect flows, one per stage, and `nightly` above them: order, concurrency, parameters."""
