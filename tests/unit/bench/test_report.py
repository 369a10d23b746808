"""bench.report: the page's figures are those of the runs, and what stands around them stays."""

import json
from pathlib import Path

import pytest

from bench import report

FACTS = {"command": "python -m bench", "cores": "2"}


def kept(row: str, who: str, **figures: float) -> dict[str, object]:
    return {"row": row, "who": who, "note": "", "rounds": {"1": figures}}


def test_the_figures_of_the_page_are_replaced_and_the_rest_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run twice, the page has the figures once: medians, ratios, costs, the backlogs as columns, the stages."""
    page = tmp_path / "performance.md"
    page.write_text("# Performance\n\nBefore.\n\n## After\n")
    monkeypatch.setattr(report, "PAGE", page)
    monkeypatch.setattr(report.plots, "draw", lambda _reports, _directory: ["accept.svg"])
    costs = {"cpu_us": 4.0, "written": 200.0, "rss_mib": 40.0}
    rows = [kept("accept", "redis", rate=1000.0, **costs), kept("accept", "relay", rate=1500.0, **costs)]
    bench, scale = tmp_path / "bench.json", tmp_path / "scale.json"
    bench.write_text(json.dumps({"machine": FACTS, "rows": rows}))
    figures = dict.fromkeys(report.scale.COLUMNS, 7.0)
    scale.write_text(json.dumps({"machine": FACTS, "part": 50, "figures": {"0": figures, "1000": figures}}))
    stages = tmp_path / "stages.json"
    stages.write_text(json.dumps({"machine": FACTS, "stages": {"accept": {"insert": 3.0, "commit": 1.0}}}))
    for _ in range(2):
        assert report.main([str(bench), str(scale), str(stages)]) == 0
    text = page.read_text()
    assert text.count(report.BEGIN) == text.count(report.END) == 1
    assert text.startswith("# Performance\n\nBefore.\n")
    assert "## After\n" in text
    assert "| who | casts/s | to the first | min .. max | cpu us a cast | bytes written a cast | resident MiB |" in text
    assert "| relay | 1,500 | 1.50 | 1.50 .. 1.50 | 4.00 | 200 | 40.0 |" in text
    assert "| accept, against Redis | at least 1 | 1.50 | met |" in text
    assert "| in the spool | 0 | 1,000 |" in text
    assert "| insert | 3.00 us, 75% |" in text
    assert "(accept.svg)" in text
