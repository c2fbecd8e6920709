"""Everything that touches a ROS type. The rooms beneath know nothing of it."""
