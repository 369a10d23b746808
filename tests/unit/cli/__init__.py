"""relay-cli, each part alone."""
