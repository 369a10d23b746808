"""The operator's door, alone."""
