"""Pretraining of dkt-nano, the small network, from scratch. Imports nothing by itself."""
