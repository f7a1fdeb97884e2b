"""The parts of the HTML page that `anomaly_seg report` writes."""
