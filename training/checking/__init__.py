"""Looks at a dataset before anything is learned from it, and says what would go wrong."""
