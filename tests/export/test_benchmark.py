from __future__ import annotations

from pathlib import Path

import pytest

from fledge.benchmark import Row, as_json
from fledge.errors import UsageError
from fledge.visualize.benchmark_page import HEADINGS, benchmark_page, markdown, trade_off


def row(model: str, runtime: str, milliseconds: float, ap: float | None) -> Row:
    return Row(model, runtime, "fp32", 96, 1, milliseconds, 9.0, 5.0, 10**8, 4 * 10**6, 850_000, 3 * 10**8, ap, ap)


ROWS = [row("runs/a", "torch", 8.0, 0.5), row("a.onnx", "onnx", 4.0, 0.5), row("b.onnx", "onnx", 3.0, None)]


def test_the_table_and_the_chart(tmp_path: Path) -> None:
    rows = as_json(ROWS)
    lines = markdown(rows).splitlines()
    assert len(lines) == 5
    assert all(line.count("|") == len(HEADINGS) + 1 for line in lines)
    assert lines[3].startswith("| a.onnx | onnx | fp32 | 96 | 1 | 4.0 |")
    assert lines[4].endswith("| – | – |")
    chart = trade_off(rows)
    assert chart is not None
    assert chart.count('class="dot"') == 2
    assert trade_off(rows[2:]) is None
    assert "a.onnx" in benchmark_page(rows, {}).html()


def test_nothing_to_measure() -> None:
    from fledge.benchmark import benchmark

    with pytest.raises(UsageError, match="nothing to measure"):
        benchmark([])
