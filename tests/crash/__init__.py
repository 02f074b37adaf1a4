"""Processes killed at the worst moments: what was acknowledged is there afterwards."""
