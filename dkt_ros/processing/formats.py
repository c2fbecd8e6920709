"""Names of what can be written, for the command line too."""

FILE_FORMATS = ("png", "exr", "npz", "ply", "contact_graspnet")
COLORS = ("raw", "jpeg")
