"""Bytes by chance for the parsers of both sides: `claims` says what must hold, `run` hands it to atheris."""
