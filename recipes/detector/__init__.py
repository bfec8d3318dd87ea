"""From numbers of the camera to electron on an assembled detector, and the masters that are taken from it."""
