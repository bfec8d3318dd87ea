"""Instruments, cascades and parameter sets in YAML, and their typed loader."""
