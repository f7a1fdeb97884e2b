"""A camera frame on its way: message, network input, prediction, outputs at camera size."""
