"""Which frames belong together: the sequence rules, late frames, and other ways to group."""
