"""Models of the stateful parts, driven at random."""
