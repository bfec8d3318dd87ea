"""What stands behind the commands: reports, tables, progress; no pixels and no SQL."""
