"""A training run: its start, its steps, its validation, and what it leaves."""
