"""Metric depth of transparent and reflective objects for ROS 2."""
