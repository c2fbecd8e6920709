"""ROS messages to arrays and back: free functions without a node."""
