"""The frames of a bag through the inference core, with labels where there are some."""
