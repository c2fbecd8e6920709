"""Recordings in, metric depth out: bags, folders, data sets and videos, without a running ROS."""
