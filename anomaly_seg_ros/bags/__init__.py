"""Rosbag2 files, read and written with the pure-Python `rosbags`; needs no ROS."""
