"""A skip is loud, and in CI one that nobody allowed fails the run."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import skips

ROOT = Path(__file__).resolve().parents[2]
CONFTEST = """
import os
from tests import skips
def pytest_configure(config):
    config.pluginmanager.register(skips.Skips(frozenset({"allowed: here"}), skips.in_ci(os.environ)))
"""


def run(directory: Path, test: str, ci: str) -> subprocess.CompletedProcess[str]:
    """One pytest run of one test file, with the plugin and nothing else."""
    (directory / "conftest.py").write_text(CONFTEST)
    (directory / "test_one.py").write_text(f"import pytest\n{test}\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(directory), str(directory)],
        env={"CI": ci, "PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        cwd=directory,
    )


SKIPPED = "def test_it(): pytest.skip('no gearmand')"


def test_ci_fails_for_a_skip_nobody_allowed(tmp_path: Path) -> None:
    """With CI set, an unlisted reason makes the run fail and stands in its summary."""
    finished = run(tmp_path, SKIPPED, "true")
    assert finished.returncode == 1
    assert "1  no gearmand  <- not in tests/allowed_skips.txt" in finished.stdout


def test_a_skip_is_loud_and_no_failure_for_a_developer(tmp_path: Path) -> None:
    """Without CI the run passes, and the reason is printed with its count all the same."""
    finished = run(tmp_path, SKIPPED, "")
    assert finished.returncode == 0
    assert "1 SKIPPED" in finished.stdout


@pytest.mark.parametrize(
    "test",
    [
        "def test_it(): pytest.skip('allowed: here')",
        "@pytest.mark.skip(reason='allowed: here')\ndef test_it(): pass",
        "pytest.skip('allowed: here', allow_module_level=True)",
        "@pytest.mark.xfail(reason='known')\ndef test_it(): assert False",
    ],
)
def test_ci_passes_an_allowed_skip_and_an_expected_failure(tmp_path: Path, test: str) -> None:
    """A listed reason passes however the skip came about; an expected failure is no skip."""
    (tmp_path / "test_two.py").write_text("def test_runs(): pass\n")
    finished = run(tmp_path, test, "true")
    assert finished.returncode == 0, finished.stdout
    assert "not in tests/allowed_skips.txt" not in finished.stdout


def test_ci_fails_for_a_skipped_module(tmp_path: Path) -> None:
    """A module that skips itself whole is counted too, beside tests that ran."""
    (tmp_path / "test_two.py").write_text("def test_runs(): pass\n")
    finished = run(tmp_path, "pytest.skip('no gearmand', allow_module_level=True)", "true")
    assert finished.returncode == 1, finished.stdout


def test_a_list_of_reasons_has_comments_and_empty_lines() -> None:
    """Comments and empty lines of the list allow nothing."""
    assert skips.allowed_reasons("# why\n\n  needs root \n") == {"needs root"}
