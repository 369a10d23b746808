"""The spool, alone."""
