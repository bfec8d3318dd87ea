"""Compiled inner loops, and what compiles them, keeps their machine code and runs them in threads."""
