from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fledge.engine.metric_log import MetricLog, read_metrics
from fledge.errors import DataError


def write(folder: Path, start: int, steps: range) -> None:
    with MetricLog(folder, start) as log:
        for step in steps:
            log.write(step, {"loss": 1 / (step + 1), "lr": 0.01})


def test_rows_come_back(tmp_path: Path) -> None:
    write(tmp_path, 0, range(1, 4))
    rows = read_metrics(tmp_path / "metrics.csv")
    assert [(s, n) for s, n, _ in rows] == [(s, n) for s in (1, 2, 3) for n in ("loss", "lr")]
    assert [v for _, n, v in rows if n == "loss"] == pytest.approx([1 / 2, 1 / 3, 1 / 4], rel=1e-6)
    assert (tmp_path / "metrics.csv").read_text().splitlines()[0] == "step,name,value"
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_a_resumed_log_equals_one_written_at_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    write(tmp_path / "a", 0, range(10))
    write(tmp_path / "b", 0, range(8))
    write(tmp_path / "b", 4, range(5, 10))
    assert (tmp_path / "a" / "metrics.csv").read_bytes() == (tmp_path / "b" / "metrics.csv").read_bytes()


def test_rows_are_on_disk_at_once(tmp_path: Path) -> None:
    with MetricLog(tmp_path) as log:
        log.write(3, {"loss": 0.5})
        assert read_metrics(tmp_path / "metrics.csv") == [(3, "loss", 0.5)]


def test_names_with_commas_and_values_that_are_not_finite(tmp_path: Path) -> None:
    with MetricLog(tmp_path) as log:
        log.write(1, {"AP, small": float("nan"), "x": float("inf")})
    (_, name, value), (_, _, infinite) = read_metrics(tmp_path / "metrics.csv")
    assert name == "AP, small"
    assert value != value
    assert infinite == float("inf")


def test_a_file_torn_anywhere_gives_whole_rows_only(tmp_path: Path) -> None:
    write(tmp_path, 0, range(3))
    path = tmp_path / "metrics.csv"
    text, rows = path.read_bytes(), read_metrics(path)
    for end in range(len(text)):
        path.write_bytes(text[:end])
        whole = text[:end].count(b"\n") - 1
        assert read_metrics(path) == rows[: max(whole, 0)], text[:end]


def test_tensorboard_reads_every_number_once(tmp_path: Path) -> None:
    """Also of a run that was killed at step 3 and resumed from step 1: its own reader is the judge."""
    with MetricLog(tmp_path) as log:
        for step in range(1, 4):
            log.write(step, {"loss": 1 / step, "lr": 0.5})
        killed = shutil.copytree(tmp_path / "tensorboard", tmp_path / "killed")
    shutil.rmtree(tmp_path / "tensorboard")
    killed.rename(tmp_path / "tensorboard")
    write(tmp_path, 1, range(2, 5))
    reader = EventAccumulator(str(tmp_path / "tensorboard"))
    reader.Reload()
    assert [(e.step, e.value) for e in reader.Scalars("loss")] == [
        (1, 1.0), *((step, pytest.approx(1 / (step + 1))) for step in (2, 3, 4)),
    ]  # fmt: skip
    assert {e.step for e in reader.Scalars("lr")} == {1, 2, 3, 4}


def test_a_file_that_is_no_log_is_set_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("my,own,table\nx,y,z\n", "a,b\n1\n", "step,name,value\n1,loss,high\n"):
        (tmp_path / "metrics.csv").write_text(text)
        with pytest.raises(DataError, match="not a log of a run"):
            read_metrics(tmp_path / "metrics.csv")
        write(tmp_path, 0, range(1, 3))
        assert len(read_metrics(tmp_path / "metrics.csv")) == 4
        assert (tmp_path / "metrics.csv.old").read_text() == text
        assert "warning" in capsys.readouterr().err


def test_a_torn_line_is_gone_after_resuming(tmp_path: Path) -> None:
    write(tmp_path, 0, range(4))
    path = tmp_path / "metrics.csv"
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    write(tmp_path, 2, range(3, 4))
    assert path.read_bytes() == whole
