"""Benchmarks that compare a part of this package with the usual way, in one run."""
