"""Prefect tasks: claim a job, read its inputs, call one recipe, write the product, finish."""
