"""Kinds of scenes to grasp in: `dkt synth tabletop` renders them, `dkt grasp bench` reads them."""

MATERIALS = ("transparent", "reflective", "diffuse")
CAMERAS = {"fixed": 1, "wrist": 1, "orbit": 6}
"""Frames of each, unless told."""
ARRANGEMENTS = {"table": (1, 4), "heap": (4, 7), "tray": (3, 6), "bin": (4, 7)}
"""Least and greatest number of objects. Those of `table` are put down, the others dropped."""
