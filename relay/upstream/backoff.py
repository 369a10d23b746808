"""How long to wait before the next try: exponential, with full jitter drawn after the cap.

The cap of try n is tenacity's; the wait is drawn between 0 and it, so that hosts that failed together do not come back
together, at the cap neither (jitter applied before a cap becomes zero there).  Pure: chance is an argument.
"""

from __future__ import annotations

from random import Random

import tenacity


class Backoff:
    """Waits in seconds: `initial` at most for the first, doubling, never more than `most`."""

    def __init__(self, initial: float, most: float) -> None:
        self._cap = tenacity.wait_exponential(multiplier=initial, max=most)
        self.most = most

    def cap(self, number: int) -> float:
        """The longest wait before try `number` + 1, in seconds; `number` counts the failures so far, from 1."""
        state = tenacity.RetryCallState(retry_object=tenacity.Retrying(), fn=None, args=(), kwargs={})
        state.attempt_number = max(1, number)
        return float(self._cap(state))

    def wait(self, number: int, rng: Random) -> float:
        """The wait after failure `number`, drawn between 0 and its cap."""
        return rng.uniform(0.0, self.cap(number))
