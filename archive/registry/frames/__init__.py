"""Frames in the registry: how they come in, are asked for and ordered, and how far each has come."""
