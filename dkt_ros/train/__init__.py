"""Data sets, losses and the loop that makes checkpoints. Knows nothing of ROS."""
