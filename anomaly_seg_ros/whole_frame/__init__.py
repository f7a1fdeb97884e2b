"""Is the whole picture out of the ordinary: density of pooled features, camera health."""
