"""`dkt view`: recordings, outputs and live topics in rerun."""
