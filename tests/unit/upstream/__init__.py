"""The upstream, alone."""
