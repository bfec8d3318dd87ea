"""Measured comparisons with the programs that people use today; ``python -m bench`` runs them."""
