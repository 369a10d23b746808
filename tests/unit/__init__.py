"""Each module alone; the folders are those of what they test."""
