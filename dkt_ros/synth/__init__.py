"""Synthetic scenes of glass and metal: shapes, layout, Blender, passes, a simulated sensor."""
