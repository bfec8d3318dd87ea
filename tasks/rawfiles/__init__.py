"""Raw files beyond their pixels: their checks, headers that hold, frames and masters of other programs."""
