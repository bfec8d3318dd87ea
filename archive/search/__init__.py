"""Questions to the archive in words of its users: expressions over columns and keywords, and their answers."""
