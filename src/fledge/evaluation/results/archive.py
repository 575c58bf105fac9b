"""Zip files of results, read in memory: nothing is unpacked to the disk.

What a stranger's archive could do is refused from its list of contents, before a byte is decompressed.
"""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path, PurePosixPath

from fledge.errors import DataError
from fledge.evaluation.results.listing import Source
from fledge.files import readable_size

_MOST_FILES, _MOST_BYTES = 10_000, 2 << 30
_MOST_RATIO, _SMALL = 200, 1 << 20  # text of detections shrinks to a fifth; a bomb to a thousandth
_AGAIN = "make a flat zip of the Task files"


def read_zip(path: Path) -> list[Source]:
    """The files of an archive, by name.

    Raises:
        DataError: damaged, encrypted, too large or too many files, a link, a name that leads elsewhere, or twice.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            _check(path, members)
            sources = [Source(_name(m), f"{path}/{m.filename}", archive.read(m)) for m in members]
    except (OSError, zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise DataError(f"cannot read archive: {path}: {error}: make it again") from error
    except ValueError as error:  # zlib and struct errors of damaged members among them
        raise DataError(f"damaged archive: {path}: {error}: make it again") from error
    return sorted(sources)


def _check(path: Path, members: list[zipfile.ZipInfo]) -> None:
    if len(members) > _MOST_FILES:
        raise DataError(f"archive refused: {path}: {len(members)} files, the limit is {_MOST_FILES}: {_AGAIN}")
    total = sum(member.file_size for member in members)
    if total > _MOST_BYTES:
        raise DataError(f"archive refused: {path}: {readable_size(total)} unpacked: {_AGAIN}")
    seen: set[str] = set()
    for member in members:
        fault = _fault(member)
        if not fault and _name(member).casefold() in seen:
            fault = "is there twice"
        if fault:
            raise DataError(f"archive refused: {path}: {member.filename!r} {fault}: {_AGAIN}")
        seen.add(_name(member).casefold())


def _fault(member: zipfile.ZipInfo) -> str:
    """What is wrong with one member, or ""."""
    name = PurePosixPath(member.filename)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if name.is_absolute() or ".." in name.parts or set(member.filename) & set("\\:\0") or not name.name:
        return "leads out of the archive"
    if kind not in (0, stat.S_IFREG):
        return "is a link or no file"
    if member.flag_bits & 1:
        return "is encrypted"
    if member.file_size > _SMALL and member.file_size > _MOST_RATIO * member.compress_size:
        return f"unpacks from {readable_size(member.compress_size)} to {readable_size(member.file_size)}"
    return ""


def _name(member: zipfile.ZipInfo) -> str:
    return PurePosixPath(member.filename).name
