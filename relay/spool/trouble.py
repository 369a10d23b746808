"""How the disk has been: whether COMMITs fail, whether new casts can be written, and when that is tried again.

Two things can be wrong.  `failing`: the last COMMIT failed, whatever was in it; nothing can be stored, so nothing is
sent.  `refusing`: the last batch with casts failed; as long as others succeed (a page that only new casts need may be
damaged) the backlog is still forwarded.  A try that succeeds ends it: of anything for the one, of casts, be it a
rehearsal, for the other.

The first STRIKES failures in a row are each followed by another try within RETRY_S, and whoever casts meanwhile causes
one.  From then on relay `rests`: callers are refused without the disk being touched, and the tries are apart by pauses
that double up to PAUSE_S.  The two have rows and pauses of their own.

Pure; `now` is monotonic, in seconds.
"""

from __future__ import annotations

#: seconds between two tries at first
RETRY_S = 0.2
#: failures in a row after which casts are refused without a try
STRIKES = 5
#: the longest pause between two tries, in seconds
PAUSE_S = 5.0


class Trouble:
    """See the module."""

    def __init__(self) -> None:
        self._store = _Row()
        self._casts = _Row()

    @property
    def failing(self) -> str | None:
        """The disk's words, while the last COMMIT failed."""
        return self._store.error

    @property
    def refusing(self) -> str | None:
        """The disk's words, while the last batch with casts failed."""
        return self._casts.error

    @property
    def any(self) -> str | None:
        """The disk's words, if anything is wrong."""
        return self.failing or self.refusing

    @property
    def retry_at(self) -> float:
        """When it is to be tried again."""
        return self._store.retry_at if self.failing else self._casts.retry_at

    def failed(self, error: str, now: float, *, casts: bool) -> bool:
        """A transaction failed, with casts in it or without; True if from now on casts are refused without a try."""
        struck = self._store.failed(error, now)
        if casts:
            struck = self._casts.failed(error, now) or struck
        return struck

    def succeeded(self, *, casts: bool) -> bool:
        """A transaction succeeded; True if that ends all trouble."""
        before = self.any
        self._store = _Row()
        if casts:
            self._casts = _Row()
        return before is not None and self.any is None

    def rests(self, now: float) -> bool:
        """True while nothing at all is tried."""
        return self._store.rests(now)

    def rehearses(self, now: float) -> bool:
        """True when writing a cast is to be tried, should none be there to be written."""
        if self.refusing is None or not self._casts.struck:
            return self.refusing is not None
        return self.failing is None and now >= self._casts.retry_at

    def refuses(self, now: float) -> bool:
        """True while new casts are refused without a try."""
        return self._store.rests(now) or self._casts.rests(now)


class _Row:
    """Failures in a row."""

    def __init__(self) -> None:
        self.error: str | None = None
        self.retry_at = 0.0
        self._failures = 0

    def failed(self, error: str, now: float) -> bool:
        """One more; True if it is the one that ends trying at once."""
        self.error = error
        self._failures += 1
        doublings = max(0, min(self._failures - STRIKES, 10))
        self.retry_at = now + min(RETRY_S * 2**doublings, PAUSE_S)
        return self._failures == STRIKES

    @property
    def struck(self) -> bool:
        return self._failures >= STRIKES

    def rests(self, now: float) -> bool:
        return self.struck and now < self.retry_at
