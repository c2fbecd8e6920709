"""The nodes' parameters: what each means, as ROS knows it, as files and documents show it."""
