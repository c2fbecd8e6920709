"""Sensor depth and a network's relative disparity into one metric depth that can be trusted."""
