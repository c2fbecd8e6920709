"""Training of the refiner that fuses sensor depth with a network's disparity."""
