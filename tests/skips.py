"""Makes skips loud: a pytest plugin that counts them, prints why, and in CI fails the run for one nobody allowed.

Promises: at the end of a run every reason is printed with its count; where the variable CI is set, a reason that
does not stand word for word in allowed_skips.txt turns a good run into a failed one.
Never does: touch the outcome of a single test, or count an expected failure as a skip.
Failure: a missing allowed_skips.txt is an error of the run.
"""

import os
from collections import Counter
from pathlib import Path

import pytest

ALLOWED = Path(__file__).with_name("allowed_skips.txt")


def allowed_reasons(text: str) -> frozenset[str]:
    """The reasons a list allows: its lines, without comments and empty ones."""
    lines = (line.strip() for line in text.splitlines())
    return frozenset(line for line in lines if line and not line.startswith("#"))


def in_ci(environ: "os._Environ[str] | dict[str, str]") -> bool:
    """Whether nobody reads along: CI is set, to something else than a no."""
    return environ.get("CI", "").lower() not in ("", "0", "false", "no")


class Skips:
    """The plugin: one instance a run."""

    def __init__(self, allowed: frozenset[str], strict: bool) -> None:
        """`strict`: a reason that is not allowed fails the run."""
        self.allowed = allowed
        self.strict = strict
        self.reasons: Counter[str] = Counter()

    @property
    def forbidden(self) -> list[str]:
        """The reasons seen that nobody allowed."""
        return sorted(reason for reason in self.reasons if reason not in self.allowed)

    def _count(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.reasons[reason.removeprefix("Skipped: ")] += 1

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test was skipped, by its mark, its fixture or itself."""
        self._count(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A whole module was skipped."""
        self._count(report)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """The one place where the run's exit status can still be changed."""
        if self.strict and self.forbidden and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say it where it is read."""
        if not self.reasons:
            return
        terminalreporter.section(f"{self.reasons.total()} SKIPPED", yellow=True, bold=True)
        for reason, count in sorted(self.reasons.items()):
            note = "" if reason in self.allowed else "  <- not in tests/allowed_skips.txt"
            terminalreporter.write_line(f"{count:5d}  {reason}{note}")
        if self.strict and self.forbidden:
            terminalreporter.write_line("In CI that fails the run.", red=True, bold=True)
