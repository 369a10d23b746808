"""A spool's settings for tests: nothing is limited, and nothing kept, but for what a test names."""

from pathlib import Path

from relay.settings import Spool


def unlimited(path: Path, **but: int) -> Spool:
    """No limit of a spool at `path`, `but` these."""
    nothing = {"max_casts": 0, "max_bytes": 0, "min_free": 0, "keep_dead": 0, "keep_done": 0, "keep_done_max": 1}
    return Spool(path=path, **{**nothing, **but})
