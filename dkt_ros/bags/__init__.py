"""Recorded data: reading, making and describing bags. Knows the bag formats, not a running ROS."""
