"""How many frames a camera is known by."""

LEAST, MOST = 10, 2000
"""Frames that are asked for at least and taken at most; more say nothing new."""
LEAST_FIT = 5
"""How many of them must be fit."""
