"""What the log says of an operator's change."""

import pytest

from relay.control.editing import words_of


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"all": True}, "all"),
        ({"exported": True}, "all"),
        ({"casts": ["1"]}, "1 named cast (1)"),
        ({"casts": ["1", "2", "3", "4"]}, "4 named casts (1, 2, 3, ...)"),
    ],
)
def test_the_words_say_which_casts_and_the_verb_says_the_rest(asked: dict[str, object], words: str) -> None:
    """`exported` is a word of the verb (`purge exported`), and said once."""
    assert words_of(asked) == words
