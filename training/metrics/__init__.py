"""Metrics: updated frame by frame, merged across workers, computed once."""
