"""The network: checkpoint, conversion, sampling. Knows nothing of ROS, cameras or metres."""
