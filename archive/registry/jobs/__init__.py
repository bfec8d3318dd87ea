"""Jobs in the registry: planned, held by lease, done; what they took and what they made."""
