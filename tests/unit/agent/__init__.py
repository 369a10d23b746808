"""The agent's own modules, each alone."""
