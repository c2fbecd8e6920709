"""The node that plays a recording."""
