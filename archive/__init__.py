"""What exists, what made it and where it lies: the registry (database) and the store (files)."""
