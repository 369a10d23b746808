"""Room for large packets: who comes in, who waits, who gives way."""

from relay.intake.room import HALF_BYTES, Room

HALF = HALF_BYTES // 2


class FakeGuest:
    """A connection that does what it is told, and takes it down."""

    def __init__(self, room: Room, *, eager: bool = True, lags: bool = False) -> None:
        self.room = room
        self.eager = eager
        self.lags = lags
        self.told: list[str] = []

    def go_on(self) -> None:
        self.told.append("go on")

    def give_way(self) -> None:
        self.told.append("give way")
        self.room.leave(self)


def test_all_come_in_while_there_is_room() -> None:
    """Up to HALF_BYTES in all; the next one waits, and is told to go on once it has room."""
    room = Room()
    first, second, third = (FakeGuest(room) for _ in range(3))
    assert room.ask(first, HALF)
    assert room.ask(second, HALF)
    assert not room.ask(third, 1)
    assert room.waits(third)
    room.leave(first)
    assert not room.waits(third)
    assert (first.told, second.told, third.told) == ([], [], ["go on"])


def test_one_packet_always_fits() -> None:
    """Also when it is larger than all the room there is; others wait for it."""
    room = Room()
    large, small = FakeGuest(room), FakeGuest(room)
    assert room.ask(large, 2 * HALF_BYTES)
    assert not room.ask(small, 1)
    room.leave(large)
    assert small.told == ["go on"]


def test_a_large_one_is_not_overtaken_by_small_ones_for_ever() -> None:
    """Whoever asks while another one waits stands behind it, also if there were room for it."""
    room = Room()
    holder, large, small = (FakeGuest(room) for _ in range(3))
    assert room.ask(holder, HALF)
    assert not room.ask(large, HALF + 1)
    assert not room.ask(small, 1)
    room.leave(holder)
    assert (large.told, small.told) == (["go on"], ["go on"])


def test_who_has_nothing_to_be_read_is_overtaken() -> None:
    """It waits for its own caller; once that sends, it is the first again."""
    room = Room()
    holder, idle, eager, late = (FakeGuest(room) for _ in range(4))
    idle.eager = False
    assert room.ask(holder, 2 * HALF)
    assert not room.ask(idle, HALF + 1)
    assert not room.ask(eager, HALF)
    room.leave(holder)
    assert (idle.told, eager.told) == ([], ["go on"])
    idle.eager = True
    assert not room.ask(late, HALF)
    room.leave(eager)
    assert (idle.told, late.told) == (["go on"], [])


def test_who_does_not_move_gives_way_to_who_would() -> None:
    """And only then: not while nobody waits, nor for one that has nothing to be read; who moves keeps its room."""
    room = Room()
    still, moving, waiting = FakeGuest(room, lags=True), FakeGuest(room), FakeGuest(room, eager=False)
    assert room.ask(still, HALF)
    assert room.ask(moving, HALF)
    room.look()
    assert not room.ask(waiting, HALF)
    room.look()
    assert (still.told, moving.told, waiting.told) == ([], [], [])
    waiting.eager = True
    room.look()
    assert (still.told, moving.told, waiting.told) == (["give way"], [], ["go on"])


def test_a_line_of_any_length_moves_at_each_look() -> None:
    """A thousand that stand still let one through that does not within as many looks as they need to come in."""
    room = Room()
    crowd = [FakeGuest(room, lags=True) for _ in range(1000)]
    for guest in crowd:
        room.ask(guest, HALF)
    last = FakeGuest(room)
    assert not room.ask(last, HALF)
    for _ in range(len(crowd) // 2):
        room.look()
    assert last.told == ["go on"]
    assert sum(guest.told[-1:] != ["give way"] for guest in crowd) == 1, "who has the other half may keep it"


def test_who_leaves_the_line_is_not_told() -> None:
    """A connection that ends while it waits is forgotten, and so is one that never asked."""
    room = Room()
    holder, gone, stranger = (FakeGuest(room) for _ in range(3))
    assert room.ask(holder, 2 * HALF)
    assert not room.ask(gone, 1)
    room.leave(gone)
    room.leave(stranger)
    room.leave(holder)
    assert gone.told == []
    assert room.ask(stranger, 2 * HALF)
