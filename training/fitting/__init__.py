"""What is fitted to a trained network: temperature and the statistics of scores."""
