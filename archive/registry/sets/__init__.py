"""Sets of frames in the registry: as they are, what becomes of them, and what grouping has not seen yet."""
