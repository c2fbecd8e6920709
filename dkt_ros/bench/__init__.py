"""Does it grasp? Depth judged by what a simulated gripper makes of it, by material. No ROS here."""
