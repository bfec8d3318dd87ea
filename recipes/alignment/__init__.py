"""Where a frame lies on another one, and its pixels brought there."""
