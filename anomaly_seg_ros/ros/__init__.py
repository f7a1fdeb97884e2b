"""The only rooms that touch ROS."""
