"""What an interrupted scene has finished: an append-only file, one record for each window.

A head says of which scene, model and settings it is. Each record has a check sum of its own head and of its boxes. What
a killed process left unfinished at the end is cut off; a record that is complete but wrong is refused, because what
follows it cannot be trusted.
"""

from __future__ import annotations

import json
import os
import struct
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fledge.errors import DataError, ResourceError, UsageError
from fledge.files import sync_folder

_MAGIC = b"fledge scene 1\n"
_LENGTH = struct.Struct("<II")  # of the header, and its CRC32
_HEAD = struct.Struct("<QIII")  # window, kind, boxes, CRC32 of these
_SUM = struct.Struct("<I")
_BOX = np.dtype([("box", "<f4", 5), ("score", "<f4"), ("label", "<i4")])
_DONE, _EMPTY = 1, 2
_SYNC_EVERY = 5.0  # seconds of work that a power cut may cost; a killed process loses none


@dataclass(frozen=True)
class Record:
    """One finished window.

    Attributes:
        window: its number.
        empty: it had no data.
        boxes: (N, 5) float32, pixels of the window at the network's scale.
        scores: (N,) float32.
        labels: (N,) int32.
    """

    window: int
    empty: bool
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int32]


class Journal:
    """A journal open for appending; closed at the end of a ``with`` block.

    Args:
        path: of the file; its folder is made.
        identity: what the results depend on; an existing journal must state the same.

    Raises:
        DataError: it is of something else, or damaged.
        UsageError: another process is writing it.
        ResourceError: it cannot be opened.
    """

    def __init__(self, path: Path, identity: Mapping[str, object]) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = path.open("a+b", buffering=0)
        except OSError as error:
            raise ResourceError(f"cannot write: {path}: {error.strerror}: check the folder and its rights") from error
        try:
            self._lock()
            self.done = self._begin(_header(identity), identity)
        except BaseException:
            self._file.close()
            raise
        self._synced = time.monotonic()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, record: Record) -> None:
        """Add a finished window.

        Raises:
            ResourceError: the disk refuses; what was there stays.
        """
        boxes = np.empty(len(record.scores), _BOX)
        boxes["box"], boxes["score"], boxes["label"] = record.boxes, record.scores, record.labels
        start = struct.pack("<QII", record.window, _EMPTY if record.empty else _DONE, len(boxes))
        body = boxes.tobytes()
        self._write(start + _SUM.pack(zlib.crc32(start)) + body + _SUM.pack(zlib.crc32(body)))
        self.done.add(record.window)
        if time.monotonic() - self._synced > _SYNC_EVERY:
            self._sync()

    def records(self) -> Iterator[Record]:
        """Every finished window, once, in the order of the file."""
        return _unique(self.path)

    def close(self) -> None:
        """Bring it to the disk."""
        if not self._file.closed:
            with suppress(ResourceError):
                self._sync()
            self._file.close()

    def remove(self) -> None:
        """Close and delete it: the result it was for is complete."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _lock(self) -> None:
        if os.name != "posix":
            return
        import fcntl

        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"in use: {self.path}: another process is working on this scene: wait for it, or give another --out"
            ) from None
        except OSError:
            return  # some network file systems have no locks

    def _begin(self, header: bytes, identity: Mapping[str, object]) -> set[int]:
        """Write or compare the header, cut a torn end off; the windows that are done."""
        done: set[int] = set()
        with self.path.open("rb") as file:
            there = file.read(len(header))
            if header.startswith(there) and len(there) < len(header):  # new, or killed before it was whole
                self._file.truncate(0)
                self._write(header)
                sync_folder(self.path.parent)
                return done
            if there != header:
                raise DataError(_difference(self.path, identity))
            end = file.tell()
            for record, end in _records(file, self.path):  # noqa: B007 (the last end is what is kept)
                done.add(record.window)
        if end < self.path.stat().st_size:
            self._file.truncate(end)
        return done

    def _write(self, data: bytes) -> None:
        try:
            at = 0
            while at < len(data):
                at += self._file.write(data[at:]) or 0
        except OSError as error:
            raise ResourceError(_refused(self.path, error)) from error

    def _sync(self) -> None:
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise ResourceError(_refused(self.path, error)) from error
        self._synced = time.monotonic()


def read_journal(path: Path) -> tuple[dict[str, Any], Iterator[Record]]:
    """What a journal is of, and every finished window, once.

    Raises:
        DataError: it is none, or damaged.
    """
    with path.open("rb") as file:
        return _identity(file, path), _unique(path)


def _unique(path: Path) -> Iterator[Record]:
    seen: set[int] = set()
    with path.open("rb") as file:
        _identity(file, path)
        for record, _ in _records(file, path):
            if record.window not in seen:
                seen.add(record.window)
                yield record


def _records(file: BinaryIO, path: Path) -> Iterator[tuple[Record, int]]:
    """Whole records from where the file stands, each with the place where it ends; stops at a torn one."""
    while True:
        at = file.tell()
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size or (not any(head) and not any(file.read(1 << 20))):
            return  # torn: cut short, or the zeros that a power cut leaves
        window, kind, count, check = _HEAD.unpack(head)
        if zlib.crc32(head[: -_SUM.size]) != check or kind not in (_DONE, _EMPTY):
            raise DataError(_damaged(path, at))
        body, end = file.read(count * _BOX.itemsize), file.read(_SUM.size)
        if len(end) < _SUM.size:
            return
        if _SUM.unpack(end)[0] != zlib.crc32(body):
            raise DataError(_damaged(path, at))
        boxes = np.frombuffer(body, _BOX)
        yield Record(window, kind == _EMPTY, boxes["box"], boxes["score"], boxes["label"]), file.tell()


def _header(identity: Mapping[str, object]) -> bytes:
    text = json.dumps(identity, sort_keys=True).encode()
    return _MAGIC + _LENGTH.pack(len(text), zlib.crc32(text)) + text


def _identity(file: BinaryIO, path: Path) -> dict[str, Any]:
    """The header, at whose end the file then stands."""
    start = file.read(len(_MAGIC) + _LENGTH.size)
    if start[: len(_MAGIC)] != _MAGIC or len(start) < len(_MAGIC) + _LENGTH.size:
        raise DataError(f"not a journal: {path}: move it away, or give another --out")
    length, check = _LENGTH.unpack(start[len(_MAGIC) :])
    text = file.read(min(length, 1 << 20))
    if zlib.crc32(text) != check:
        raise DataError(_damaged(path, 0))
    found: dict[str, Any] = json.loads(text)
    return found


def _difference(path: Path, identity: Mapping[str, object]) -> str:
    """Why a journal does not belong to these arguments."""
    with path.open("rb") as file:
        theirs = _identity(file, path)
    names = sorted(k for k in {*theirs, *identity} if theirs.get(k) != json.loads(json.dumps(identity.get(k))))
    return (
        f"journal differs: {path}: it was begun with another {', '.join(names)}: give the same as then, or --restart "
        "to begin again"
    )


def _damaged(path: Path, at: int) -> str:
    return f"damaged journal: {path}: the record at byte {at} is wrong: add --restart to begin the scene again"


def _refused(path: Path, error: OSError) -> str:
    return (
        f"cannot write: {path}: {error.strerror}: free some space and run the same command again; it goes on from the "
        "last finished window"
    )
