"""The benchmark works: its short form, of which no figure is asked."""

import json
import subprocess
import sys
from pathlib import Path

from bench import scale
from bench.rows import ROWS

ROOT = Path(__file__).resolve().parents[2]


def test_the_short_form_runs_every_row(tmp_path: Path) -> None:
    """What each row counts is right, for relay and for what is installed beside it, and the table is printed."""
    figures = tmp_path / "bench.json"
    command = [sys.executable, "-m", "bench", "--quick", "--dir", str(tmp_path), "--json", str(figures)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    measured = {one["row"] for one in json.loads(figures.read_text())["rows"] if one["rounds"]}
    assert measured == {row.name for row in ROWS if row.quick}
    for row in measured:
        assert f"\n{row} " in done.stdout


def test_the_scale_of_a_small_backlog_is_measured(tmp_path: Path) -> None:
    """An agent with a backlog is filled, killed, started and drained, and each count is right."""
    figures = tmp_path / "scale.json"
    command = [sys.executable, "-m", "bench.scale", "--casts", "1000", "--part", "500", "--dir", str(tmp_path)]
    done = subprocess.run(
        [*command, "--json", str(figures)], cwd=ROOT, check=False, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(figures.read_text())["figures"]["1000"]
    assert found["accepted"] == 1000 + 1000 + 3 * 500  # the warm-up, the backlog, the parts
    assert 3 * 500 <= found["executed"] <= found["accepted"]
    # a few hundred casts may take less than a tick of the processor's clock
    assert all(found[name] > 0 or (name.endswith("cpu_us") and found[name] == 0) for name in scale.COLUMNS), found
