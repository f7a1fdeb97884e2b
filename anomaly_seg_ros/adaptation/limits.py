"""How many frames a camera is known by."""

LEAST, MOST = 10, 2000
"""Frames to come; more than the last say nothing new."""
LEAST_FIT = 5
"""How many of them must be fit."""
