"""The callers of a soak: services that cast at a pace of their own, and try again what was not answered, or do not.

A half of the casts carry a unique; those are tried again with it until they are acknowledged, as `relay.client` does.
The others are tried once. Some callers go away in the middle of a packet, or read no answers.
Never does: send a payload under another number's unique.
"""

from random import Random

from tests.rig import packets
from tests.rig.agent import Agent
from tests.rig.packets import Stream, submission

from .tally import ACKNOWLEDGED, IN_DOUBT, REFUSED, Tally
from .threads import Stoppable

FUNCTIONS = (b"work", b"other", b"third")
AHEAD = 3_000
"""How many casts may be acknowledged and not executed before callers hold back."""
LONGEST = 20_000
OPEN = ("spool_error",)
"""Refusals after which a cast may yet be executed."""
KNOWN = ("draining", "disk_full", "spool_full", *OPEN)


class Caller(Stoppable):
    """Casts until it is stopped."""

    def __init__(self, agent: Agent, tally: Tally, rng: Random, per_second: float) -> None:
        """Start."""
        super().__init__("caller")
        self._agent, self._tally, self._rng, self._per_second = agent, tally, rng, per_second
        self._again: list[int] = []
        self.failure: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Batch after batch, each over a connection of its own."""
        try:
            while not self.stopping.is_set():
                if self._tally.acknowledged - self._tally.finished > AHEAD:
                    self.stopping.wait(0.05)
                    continue
                size = self._rng.choice((1, 1, 5, 20, 60))
                numbers = self._again[:size] or [self._tally.draw() for _ in range(size)]
                del self._again[:size]
                self._cast(numbers)
                self.stopping.wait(self._rng.random() * 2 * len(numbers) / self._per_second)
        except BaseException as error:
            self.failure = error
            raise

    def _request(self, number: int) -> bytes:
        # from its number alone, so that a second try is the same
        own = Random(number)
        payload = b"%d." % number + own.randbytes(int(LONGEST ** own.random()))
        unique = b"%032x" % own.getrandbits(128) if number % 2 else b""
        return submission(own.choice(FUNCTIONS), payload, unique, own.choice(("high", "normal", "normal", "low")))

    def _cast(self, numbers: list[int]) -> None:
        requests = b"".join(map(self._request, numbers))
        answered = 0
        try:
            with Stream(self._agent.socket) as stream:
                if self._rng.random() < 0.02:
                    # a part of it, and gone
                    stream.send(requests[: self._rng.randrange(len(requests))])
                else:
                    stream.send(requests)
                    for number in numbers:
                        self._note(number, stream.read())
                        answered += 1
        except OSError:
            self.stopping.wait(0.1)
        for number in numbers[answered:]:
            self._tally.answered(number, IN_DOUBT)
            self._try_again(number)

    def _note(self, number: int, answer: packets.Packet) -> None:
        if answer.type == packets.JOB_CREATED:
            self._tally.answered(number, ACKNOWLEDGED)
            return
        code = answer.body.partition(b"\0")[0].decode()
        assert answer.type == packets.ERROR, f"an answer of type {answer.type} to a submission"
        assert code in KNOWN, f"a refusal that the soak gives no reason for: {answer.body!r}"
        self._tally.answered(number, IN_DOUBT if code in OPEN else REFUSED, code)
        self._try_again(number)

    def _try_again(self, number: int) -> None:
        if number % 2:
            self._again.append(number)
