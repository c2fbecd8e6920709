"""Where a parallel-jaw gripper closes safely, from depth and how far to trust it. No ROS here."""
