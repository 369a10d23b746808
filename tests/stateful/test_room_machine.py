"""The room for large packets against a model: never too much in it, nobody forgotten, nobody told twice."""

import hypothesis.strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from relay.intake.room import HALF_BYTES, Room
from tests.stateful.examples import examples

SIZES = st.sampled_from([1, HALF_BYTES // 4, HALF_BYTES // 2, HALF_BYTES - 1, HALF_BYTES, 3 * HALF_BYTES])


class FakeGuest:
    """A connection that keeps the rules, and remembers what it was told."""

    def __init__(self, machine: "RoomMachine", size: int, eager: bool, lags: bool, after: str) -> None:
        self.machine = machine
        self.size = size
        self.eager = eager
        self.lags = lags
        #: what it does as soon as it is told to go on
        self.after = after
        self.state = "new"

    def go_on(self) -> None:
        assert self.state == "in line"
        self.come_in()
        if self.after != "stays":
            self.machine.room.leave(self)
            self.state = "gone"
        if self.after == "asks again":
            self.machine.ask(self)

    def give_way(self) -> None:
        assert self.state == "in"
        assert self.lags
        assert any(guest.eager for guest in self.machine.guests if guest.state == "in line")
        self.state = "gone"
        self.machine.room.leave(self)

    def come_in(self) -> None:
        self.state = "in"
        inside = [guest.size for guest in self.machine.guests if guest.state == "in"]
        assert len(inside) == 1 or sum(inside) <= HALF_BYTES


class RoomMachine(RuleBasedStateMachine):
    """Connections come, ask, move or stand still, and leave, in any order and within one another."""

    guests_ = Bundle("guests")

    def __init__(self) -> None:
        super().__init__()
        self.room = Room()
        self.guests: list[FakeGuest] = []

    def ask(self, guest: FakeGuest) -> None:
        """Ask, and believe the answer."""
        guest.state = "in line"
        guest.after = "stays"
        if self.room.ask(guest, guest.size):
            guest.come_in()

    @rule(
        target=guests_,
        size=SIZES,
        eager=st.booleans(),
        lags=st.booleans(),
        after=st.sampled_from(["stays", "leaves", "asks again"]),
    )
    def comes(self, size: int, eager: bool, lags: bool, after: str) -> FakeGuest:
        """Somebody begins a large packet."""
        guest = FakeGuest(self, size, eager, lags, after)
        self.guests.append(guest)
        guest.state = "in line"
        if self.room.ask(guest, size):
            guest.come_in()
        return guest

    @rule(guest=consumes(guests_))
    def leaves(self, guest: FakeGuest) -> None:
        """Its packet is complete, or its caller gone; leaving twice changes nothing."""
        guest.state = "gone"
        self.room.leave(guest)
        self.room.leave(guest)

    @rule(guest=guests_, eager=st.booleans(), lags=st.booleans())
    def changes(self, guest: FakeGuest, eager: bool, lags: bool) -> None:
        """Its caller sends, or stands still."""
        guest.eager, guest.lags = eager, lags

    @rule()
    def look(self) -> None:
        """The time comes to look for those that hold up the line."""
        lagging = [guest for guest in self.guests if guest.state == "in" and guest.lags]
        self.room.look()
        if any(guest.eager for guest in self.guests if guest.state == "in line"):
            assert all(guest.state == "gone" for guest in lagging)

    @invariant()
    def the_room_agrees(self) -> None:
        """Who waits is known, and nobody waits while there is nobody in the room."""
        for guest in self.guests:
            assert self.room.waits(guest) == (guest.state == "in line")
        states = {guest.state for guest in self.guests}
        assert "in line" not in states or "in" in states


TestRoom = RoomMachine.TestCase
TestRoom.settings = examples(200, 40)
