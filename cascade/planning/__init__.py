"""From a target to jobs: which calibrations fit, what is to be done and in which order."""
