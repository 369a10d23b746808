"""The errors: one type for each code, and each of them says what trying again needs."""

import copy
import pickle

import pytest

import relay.client
from relay.client.errors import CLOSING, CODES, CastError, Rejected, Unanswered, Unavailable, rejected
from relay.client.submission import Cast
from relay.protocol.caller import SENTENCES

CAST = Cast("f", b"secret", "u")


def test_every_code_of_the_agent_has_its_type() -> None:
    """The protocol's codes all have one, none has two, and relay.client gives them all out."""
    assert CODES.keys() >= SENTENCES.keys()
    assert len(set(CODES.values())) == len(CODES)
    for code, error in CODES.items():
        assert error.__name__ == "".join(word.capitalize() for word in code.split("_"))
        assert getattr(relay.client, error.__name__) is error
    assert CODES.keys() >= CLOSING


def test_a_code_that_nobody_knows_yet_is_a_plain_rejected() -> None:
    """With its code and text."""
    error = rejected("too_fast", "Slower.", CAST)
    assert type(error) is Rejected
    assert (error.code, error.text, str(error)) == ("too_fast", "Slower.", "too_fast: Slower.")


def test_only_a_spool_error_leaves_a_rejected_cast_in_doubt() -> None:
    """Of the answers to a first try."""
    assert [code for code in CODES if rejected(code, "", CAST).in_doubt] == ["spool_error"]


@pytest.mark.parametrize(
    "error", [rejected("draining", "No.", CAST), Unavailable("Nobody.", (CAST,)), Unanswered("Silence.", (CAST,))]
)
def test_an_error_carries_its_cast_and_shows_no_payload(error: CastError) -> None:
    """The unique, in the text for people too; what ends up in logs holds no payload; it can be pickled and copied."""
    assert (error.unique, error.casts) == ("u", (CAST,))
    for twin in (error, copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (type(twin), str(twin), twin.casts) == (type(error), str(error), (CAST,))
        assert "secret" not in f"{twin} {twin!r}"
        assert "'u'" in repr(twin)


def test_an_error_without_a_cast_has_no_unique() -> None:
    """A cast_many that never began."""
    assert Unavailable("Nobody.").unique is None
