"""Chance in tests: drawn, or repeated, or in CI the same in each run."""

import pytest

from tests.rig import counts


def drawn() -> int:
    """What the first draw of a test comes to."""
    return counts.seeded().getrandbits(64)


def test_each_run_draws_another_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody reads along, so what chance finds is not lost."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("RELAY_SEED", raising=False)
    assert drawn() != drawn()


def test_a_long_run_draws_in_ci_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there to find what was not looked for."""
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("RELAY_LONG", "1")
    monkeypatch.delenv("RELAY_SEED", raising=False)
    assert drawn() != drawn()


def test_a_seed_that_is_given_repeats_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else is set."""
    monkeypatch.setenv("RELAY_SEED", "7")
    monkeypatch.setenv("CI", "true")
    first = drawn()
    monkeypatch.delenv("CI")
    assert drawn() == first


def test_ci_says_the_same_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """One seed a test, and each test one of its own."""
    monkeypatch.setenv("CI", "true")
    monkeypatch.delenv("RELAY_LONG", raising=False)
    monkeypatch.delenv("RELAY_SEED", raising=False)
    first = drawn()
    assert drawn() == first
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "another one")
    assert drawn() != first
