"""Rigid bodies: convex parts of meshes, a world of MuJoCo's, where they rest. No ROS here."""
