"""The configuration: options, values and their loading."""
