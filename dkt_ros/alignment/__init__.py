"""Relative disparity onto the metric scale of raw depth: one scale and one shift."""
