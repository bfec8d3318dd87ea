"""The cascade as it is written down: its model, how cascades are composed, conditions and parameters."""
