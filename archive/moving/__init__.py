"""Parts of an archive on their way to another one: what belongs together, in which form, and how it gets in."""
