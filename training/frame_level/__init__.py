"""What goes wrong with a camera, drawn into good frames, and how well it is noticed."""
