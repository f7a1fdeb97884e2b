"""Makes what a recipe learns from files without labels: outlines of photos, labels of frames."""
