"""The demonstration behind `make demo`: three processes over DDS, and what came of them."""
