"""The numbers of a run, as CSV and for TensorBoard."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from torch.utils.tensorboard.writer import SummaryWriter


class MetricLog:
    """Appends rows of named numbers to ``metrics.csv`` (columns ``step``, ``name``, ``value``) and to TensorBoard.

    Args:
        folder: the run folder.
        start_step: finished steps; later rows, left by an interrupted run, are dropped.
    """

    def __init__(self, folder: Path, start_step: int = 0) -> None:
        path = folder / "metrics.csv"
        rows = [row for row in read_metrics(path) if row[0] <= start_step] if path.exists() else []
        self._file = path.open("w", newline="", encoding="utf-8")
        self._csv = csv.writer(self._file)
        self._csv.writerow(("step", "name", "value"))
        self._csv.writerows((step, name, f"{value:.7g}") for step, name, value in rows)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=start_step + 1 if start_step else None)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Log the numbers of one finished step."""
        for name, value in values.items():
            self._csv.writerow((step, name, f"{value:.7g}"))
            self._board.add_scalar(name, value, step)
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._board.close()


def read_metrics(path: Path) -> list[tuple[int, str, float]]:
    """The rows (step, name, value) of a ``metrics.csv``; a torn last line is left out."""
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1].decode()
    return [(int(step), name, float(value)) for step, name, value in list(csv.reader(whole.splitlines()))[1:]]
