"""ROS messages to frames, without ROS: fields, pixels, pairs by stamp, what is dropped and why."""
