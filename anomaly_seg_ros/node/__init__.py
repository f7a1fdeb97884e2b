"""What the node decides, as plain values and functions; needs no ROS."""
