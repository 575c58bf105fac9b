from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.distillation import Work, measure, table

from fledge.data.synthetic import write_dataset


@pytest.mark.slow
def test_all_figures_are_there(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", "train", 4, 64, 0)
    tiny = {"neck_channels": 8, "head_convs": 1, "backbone": "resnet18_quarter"}
    methods = ["at", "crosskd", "fgd", "ifkd_edges_cached", "ld", "pkd"]
    result = measure(Work(tmp_path, 64, 2, tiny, "resnet18_quarter"), 2, methods)
    assert list(result["methods"]) == methods
    for rounds in result["methods"].values():
        assert [set(r) for r in rounds] == [{"distillation step", "student step", "teacher forward"}] * 2
        assert all(seconds > 0 for r in rounds for seconds in r.values())
    assert set(result["memory"]) == {"none", *methods}
    text = table(result)
    assert all(f"| `{name}` |" in text for name in methods)
    assert "| from disk |" in text


def test_ratios_of_a_result() -> None:
    """A step of 1.2 s over 0.7 + 0.3 s, and one of 2.4 s over twice as much."""
    parts = {"distillation step": 1.2, "student step": 0.7, "teacher forward": 0.3}
    rounds = [{name: k * seconds for name, seconds in parts.items()} for k in (1, 2)]
    cached = {"computed": 1.0, "in memory": 0.6, "from disk": 0.8, "megabytes an image": 3.0}
    text = table({"methods": {"at": rounds}, "memory": {"none": 100.0, "at": 104.0}, "caching": [cached]})
    assert "| `at` | 1.200 (1.200 to 1.200) | 300 (200 to 400) | 104 | +4 |" in text
    assert "| in memory | 600 (600 to 600) | 0.600 (0.600 to 0.600) |" in text
