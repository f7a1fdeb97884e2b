"""What `anomaly_seg evaluate` is made of: frames in, rows, tables, curves and pictures out."""
