"""Whether the agent is well, for whoever restarts or alarms: `application/health+json`.

*fail* is for what a restart may mend, and is answered 503: the spool cannot be written, or a COMMIT has been under way
for longer than STUCK_S.  That the event loop lives is what the answer itself shows.  Everything else that is wrong, an
upstream that is down above all, is *warn*: a restart would not mend it, and the casts are safe.

Pure: composed from what is known already; nothing is probed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from relay.facts import Facts, Problem

CONTENT_TYPE = "application/health+json"
#: seconds that a COMMIT may take before the disk counts as hung
STUCK_S = 30.0

PASS, WARN, FAIL = "pass", "warn", "fail"
#: problems that mean that the spool cannot be written
_FATAL = frozenset({"spool_failing"})


def health(facts: Facts, problems: Sequence[Problem], committing_s: float, version: str) -> dict[str, Any]:
    """The object; `committing_s` is for how many seconds the COMMIT that runs has run, 0 when none does."""
    fatal = [problem.text for problem in problems if problem.code in _FATAL]
    if committing_s > STUCK_S:
        fatal.append(f"a COMMIT has been under way for {committing_s:.0f} s")
    checks: dict[str, list[dict[str, Any]]] = {
        "spool:writable": [_check(FAIL if fatal else PASS, "; ".join(fatal), componentType="datastore")],
        "upstream:connected": [
            _check(
                WARN if upstream.last_error or upstream.state == "paused" else PASS,
                upstream.last_error or upstream.state,
                componentId=upstream.server,
                componentType="component",
            )
            for upstream in facts.upstreams
        ],
    }
    for problem in problems:
        if problem.code not in _FATAL:
            checks[f"problem:{problem.code}"] = [_check(WARN, problem.text, componentType="system")]
    found = {check["status"] for some in checks.values() for check in some}
    return {
        "status": next((status for status in (FAIL, WARN) if status in found), PASS),
        "serviceId": "relay-agent",
        "releaseId": version,
        "description": "store-and-forward agent for Gearman background jobs",
        "checks": checks,
    }


def http_status(answer: Mapping[str, Any]) -> int:
    """200 for pass and warn, 503 for fail."""
    return 503 if answer["status"] == FAIL else 200


def _check(status: str, output: str, **more: str) -> dict[str, Any]:
    return {**more, "status": status, "output": output}
