"""How the disk has been: rows of failures, what is refused without a try, and what ends it."""

from relay.spool.trouble import PAUSE_S, RETRY_S, STRIKES, Trouble


def test_no_trouble_refuses_nobody() -> None:
    """Before anything failed nothing rests and nothing is refused."""
    trouble = Trouble()
    assert (trouble.any, trouble.rests(0), trouble.refuses(0), trouble.rehearses(0)) == (None, False, False, False)
    assert not trouble.succeeded(casts=True)


def test_a_few_failures_are_each_followed_by_a_try() -> None:
    """Until STRIKES of them in a row callers still cause a try; the next one is at RETRY_S."""
    trouble = Trouble()
    for number in range(1, STRIKES):
        assert not trouble.failed("full", 10.0, casts=True)
        assert (trouble.failing, trouble.retry_at, trouble.refuses(10.0)) == ("full", 10 + RETRY_S, False), number
    assert trouble.failed("full", 10.0, casts=True)
    assert trouble.refuses(10.0)
    assert trouble.rests(10.0)
    assert not trouble.refuses(10 + RETRY_S)


def test_pauses_double_up_to_the_longest() -> None:
    """Each failure more doubles the pause, for ever bounded by PAUSE_S."""
    trouble, pauses = Trouble(), []
    for _ in range(2000):
        trouble.failed("no", 0.0, casts=False)
        pauses.append(trouble.retry_at)
    assert pauses[STRIKES - 1 : STRIKES + 3] == [RETRY_S, 2 * RETRY_S, 4 * RETRY_S, 8 * RETRY_S]
    assert pauses[-1] == PAUSE_S == max(pauses)


def test_a_success_without_casts_leaves_casts_refused() -> None:
    """When only new casts cannot be written, the rest goes on; a rehearsal of a cast ends it, after its pause."""
    trouble = Trouble()
    for _ in range(STRIKES):
        trouble.failed("malformed", 0.0, casts=True)
    assert not trouble.succeeded(casts=False)
    assert (trouble.failing, trouble.refusing, trouble.any) == (None, "malformed", "malformed")
    assert (trouble.rests(0.0), trouble.refuses(0.0), trouble.rehearses(0.0)) == (False, True, False)
    assert trouble.rehearses(RETRY_S)
    trouble.failed("malformed", RETRY_S, casts=True)
    assert not trouble.rests(RETRY_S), "the backlog is tried again at once"
    assert not trouble.rehearses(2 * RETRY_S), "while everything fails, casts are not what is tried"
    trouble.succeeded(casts=False)
    assert trouble.succeeded(casts=True)
    assert trouble.any is None


def test_a_success_begins_a_new_row() -> None:
    """After a success it takes STRIKES failures again."""
    trouble = Trouble()
    for _ in range(3 * STRIKES):
        trouble.failed("no", 0.0, casts=True)
    trouble.succeeded(casts=True)
    trouble.failed("no", 0.0, casts=True)
    assert not trouble.refuses(0.0)
