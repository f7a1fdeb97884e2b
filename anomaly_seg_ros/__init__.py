"""Semantic segmentation with a per-pixel anomaly score for cameras on vehicles."""

__version__ = '0.1.0'
