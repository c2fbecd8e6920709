"""Depth errors, baselines and reports. Knows nothing of ROS or training."""
