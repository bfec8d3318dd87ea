"""Which frames belong together, and what is made from what: pure functions on plain records."""
