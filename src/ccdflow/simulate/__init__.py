"""Nights of realistic raw frames whose truth is known."""

from ccdflow.simulate.night import Night, simulate_night

__all__ = ["Night", "simulate_night"]
