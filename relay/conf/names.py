"""What is said about a name that is none of relay's, and an error as one line.

Pure; never fails.
"""

import difflib
from collections.abc import Sequence


def nearest(name: str, known: Sequence[str]) -> str:
    """In brackets: the known name that is most like this one, or all there are."""
    near = difflib.get_close_matches(name, known, 1)
    return f" (did you mean {near[0]}?)" if near else f" (there are {', '.join(known)})" if known else ""


def one_line(error: BaseException) -> str:
    """The text of an error without its line breaks."""
    return " ".join(str(error).split())
