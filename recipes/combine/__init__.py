"""Many frames into one: which values count, their average, and what is said of it."""
