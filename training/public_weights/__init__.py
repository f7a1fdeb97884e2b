"""Weights files that others have published: how they are read, and whose layout they have."""
