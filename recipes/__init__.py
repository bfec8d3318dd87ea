"""Pixels: arrays in, arrays out; bias, dark, flat, science, stack and the verbs they are made of."""
