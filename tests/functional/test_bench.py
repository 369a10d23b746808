"""The benchmark works: its short form, of which no figure is asked."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_short_form_runs_every_row(tmp_path: Path) -> None:
    """Each row is measured once for relay, what it accepted was counted and retired, and the table is printed."""
    figures = tmp_path / "bench.json"
    command = [sys.executable, "-m", "bench", "--quick", "--dir", str(tmp_path), "--json", str(figures)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    for row in ("accept   relay ", "through  relay before gearmand", "waiting  relay "):
        assert row in done.stdout
    assert json.loads(figures.read_text())
