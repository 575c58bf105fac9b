"""Scalars for TensorBoard, written by the caller's own thread.

PyTorch's ``SummaryWriter`` writes from a second thread up to two minutes later: what it holds is lost when the process
is killed, and a full disk ends it with a traceback. The records and their format are TensorBoard's own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter


class EventFile:
    """One file of scalars.

    Args:
        folder: of the files of a run; TensorBoard reads them in the order of their names.
        start_step: finished steps; later scalars of earlier files are hidden. 0 hides none.

    Raises:
        OSError: here and when writing, if the folder or disk refuses.
    """

    def __init__(self, folder: Path, start_step: int = 0) -> None:
        folder.mkdir(exist_ok=True)
        # Records carry the time of day for display; nothing is computed from it.
        number = len(list(folder.iterdir()))
        name = f"events.out.tfevents.{time.time_ns() // 10**9:010d}.{number:06d}.{os.getpid()}"
        self._file = (folder / name).open("xb")
        self._records = RecordWriter(self._file)
        self._add(Event(file_version="brain.Event:2"))
        if start_step:
            self._add(Event(step=start_step + 1, session_log=SessionLog(status=SessionLog.START)))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add the numbers of a step."""
        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._add(Event(step=step, summary=Summary(value=scalars)))

    def close(self) -> None:
        """Close the file; every record is in it already."""
        self._file.close()

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
        self._records.flush()
