"""An operator's long work rests while callers cast, and only then."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from relay.control import courtesy
from relay.control.courtesy import BUSY_S, PAUSE, Courtesy


def test_it_rests_while_somebody_casts(monkeypatch: pytest.MonkeyPatch) -> None:
    """PAUSE times as long as the slice took, up to BUSY_S after the last cast that was seen; then not at all."""
    rests: list[float] = []
    moment = [100.0]

    async def sleep(seconds: float) -> None:
        rests.append(seconds)

    monkeypatch.setattr(courtesy.time, "monotonic", lambda: moment[0])
    monkeypatch.setattr(courtesy.asyncio, "sleep", sleep)
    spool: Any = SimpleNamespace(accepted=0)
    kind = Courtesy(spool)

    async def scenario() -> None:
        await kind.rest(0.01)
        assert rests == []
        spool.accepted = 3
        await kind.rest(0.01)
        moment[0] += BUSY_S / 2
        await kind.rest(0.02)
        assert rests == [PAUSE * 0.01, PAUSE * 0.02]
        moment[0] += BUSY_S
        await kind.rest(0.01)
        assert len(rests) == 2

    asyncio.run(scenario())
