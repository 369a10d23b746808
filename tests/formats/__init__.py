"""Golden spools: one of each format that relay ever wrote, and the script that made it."""
