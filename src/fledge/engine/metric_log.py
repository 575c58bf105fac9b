"""The numbers of a run, as CSV and for TensorBoard."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from fledge.engine.event_file import EventFile
from fledge.engine.progress import say
from fledge.errors import DataError, ResourceError
from fledge.files import write_bytes

Row = tuple[int, str, float]


class MetricLog:
    """Appends rows of named numbers to ``metrics.csv`` (columns ``step``, ``name``, ``value``) and to TensorBoard.

    A log that cannot be written is a warning, once, and not the end of the run. Rows that the disk refused are kept
    and written as soon as it takes them.

    Args:
        folder: the run folder.
        start_step: finished steps; later rows, left by an interrupted run, are dropped.
    """

    def __init__(self, folder: Path, start_step: int = 0) -> None:
        self._path = folder / "metrics.csv"
        self._warned = False
        self._size: int | None = None  # bytes of the file that are whole rows; None before the first was written
        self._pending = b"step,name,value\r\n" + _lines(self._earlier(start_step))
        self._flush()
        self._board: EventFile | None = None
        try:
            self._board = EventFile(folder / "tensorboard", start_step)
        except OSError as error:
            self._warn(error)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Log the numbers of one finished step."""
        self._pending += _lines((step, name, value) for name, value in values.items())
        self._flush()
        if self._board is not None:
            try:
                self._board.write(step, values)
            except OSError as error:
                self._close_board()
                self._warn(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_board()

    def _close_board(self) -> None:
        if self._board is not None:
            with suppress(OSError):
                self._board.close()
        self._board = None

    def _earlier(self, start_step: int) -> list[Row]:
        """The rows that stay. A file that is no log of ours is set aside, not overwritten."""
        try:
            return [row for row in read_metrics(self._path) if row[0] <= start_step] if self._path.exists() else []
        except DataError as error:
            other = self._path.with_name("metrics.csv.old")
            self._path.replace(other)
            say(f"warning: {error}; it is now {other.name}, and a new log begins")
            return []

    def _flush(self) -> None:
        try:
            if self._size is None:
                write_bytes(self._path, self._pending)
                self._size = len(self._pending)
            else:
                self._append(self._size, self._pending)
                self._size += len(self._pending)
            self._pending = b""
        except (OSError, ResourceError) as error:
            self._warn(error)

    def _append(self, size: int, data: bytes) -> None:
        with self._path.open("r+b", buffering=0) as file:
            file.truncate(size)  # a row that a full disk cut is written again, whole
            file.seek(size)
            written = 0
            while written < len(data):
                written += file.write(data[written:])

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            say(f"warning: cannot log: {error}; training goes on, and later rows are kept in memory")
        self._warned = True


def read_metrics(path: Path) -> list[Row]:
    """The rows (step, name, value) of a ``metrics.csv``; a torn last line is left out.

    Raises:
        DataError: it is no such file.
    """
    try:
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1].decode()
        return [(int(step), name, float(value)) for step, name, value in list(csv.reader(whole.splitlines()))[1:]]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"not a log of a run: {path}: {error}: train again, or remove it") from error


def _lines(rows: Iterable[Row]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows((step, name, f"{value:.7g}") for step, name, value in rows)
    return text.getvalue().encode()
