"""The intake, alone."""
