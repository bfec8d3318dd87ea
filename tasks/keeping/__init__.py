"""What is kept: whether the store is there, and what of the products."""
