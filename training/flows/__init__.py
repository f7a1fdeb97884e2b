"""Normalising flows over image patches, in parts of one concept each."""
