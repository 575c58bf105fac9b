"""A request's image: an upload that arrives in pieces, or the path of a file below the root."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.types import Message, Receive

from fledge.errors import DataError
from fledge.files import readable_size
from fledge.serve.problems import Problem
from fledge.serve.rooted import file_under

Later = Callable[[Callable[[], None]], None]

MAX_JSON = 65_536
_FORM_ROOM = 65_536  # for the boundaries and headers around a file
_COPY = 1 << 20
_ODD = re.compile(r"[^\w .()+-]+")


@dataclass(frozen=True)
class Given:
    """An image that a client sent or named.

    Attributes:
        path: where it is now.
        name: what the client called it, as a stem that is safe to show; ``image`` if it has none.
        said: what messages call it.
    """

    path: Path
    name: str
    said: str

    def hide(self, text: str) -> str:
        """``text`` with the client's own name in place of the path here."""
        return text.replace(str(self.path), self.said).replace(str(self.path.parent), "…")


@asynccontextmanager
async def given(request: Request, max_bytes: int, root: Path | None, later: Later) -> AsyncIterator[Given]:
    """The image of a request; an upload lies in a folder of its own, for as long as the block runs.

    Args:
        request: its body was not read yet.
        max_bytes: of an upload.
        root: folder below which files may be named; None: none may.
        later: calls a function once no job can read the upload any more.

    Raises:
        Problem: 400, 403, 404, 413 or 415.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        yield await _named(request, root)
        return
    if kind != "multipart/form-data" and kind != "application/octet-stream" and not kind.startswith("image/"):
        raise Problem(
            415, "unknown content type: send multipart/form-data with `image`, an image itself, or JSON with `path`"
        )
    folder = TemporaryDirectory(prefix="fledge-serve-")
    take = _from_form if kind == "multipart/form-data" else _from_body
    try:
        yield await take(request, Path(folder.name) / "upload", max_bytes)
    except BaseException:
        later(folder.cleanup)  # the job may still run
        raise
    folder.cleanup()


async def _from_body(request: Request, target: Path, max_bytes: int) -> Given:
    """The body itself."""
    with target.open("wb") as file:
        async for piece in Request(request.scope, _counted(request.receive, max_bytes)).stream():
            file.write(piece)
    return Given(target, "image", "image")


async def _from_form(request: Request, target: Path, max_bytes: int) -> Given:
    """The file in the field ``image`` of a form; larger ones wait in nameless temporary files."""
    counted = Request(request.scope, _counted(request.receive, max_bytes, _FORM_ROOM))
    async with counted.form(max_files=1, max_fields=8, max_part_size=MAX_JSON) as form:
        upload = form.get("image")
        if not isinstance(upload, UploadFile):
            raise Problem(400, "no image: the form has no file `image`: send one, as in curl -F image=@scene.png")
        with target.open("wb") as file:
            while piece := await upload.read(_COPY):
                file.write(piece)
        return Given(target, _stem(upload.filename or ""), "image")


async def _named(request: Request, root: Path | None) -> Given:
    body = b""
    async for piece in Request(request.scope, _counted(request.receive, MAX_JSON)).stream():
        body += piece
    try:
        wanted = json.loads(body)
    except (ValueError, RecursionError):
        raise Problem(400, 'not JSON: the body: send an object such as {"path": "scene.tif"}') from None
    if not isinstance(wanted, dict) or set(wanted) != {"path"} or not isinstance(wanted["path"], str):
        raise Problem(422, 'no path: the body: send an object such as {"path": "scene.tif"}, nothing else in it')
    if root is None:
        raise Problem(403, "path refused: this service reads no files: upload the image, or start it with --root")
    file = file_under(root, wanted["path"])
    return Given(file, _stem(file.name), wanted["path"])


def _counted(receive: Receive, limit: int, room: int = 0) -> Receive:
    """``receive`` that stops, while a body arrives, at ``limit`` bytes and ``room`` for what is around them."""
    count = 0

    async def counting() -> Message:
        nonlocal count
        message = await receive()
        count += len(message.get("body", b""))
        if count > limit + room:
            raise Problem(413, f"too large: the body: the limit is {readable_size(limit)}: cut the image into tiles")
        return message

    return counting


def check_pixels(image: Given, max_pixels: int) -> None:
    """Refuse an image for its size, by its header.

    Raises:
        Problem: 413 beyond the limit, 422 if it is no image.
    """
    from fledge.data.raster import read_size

    try:
        height, width = read_size(image.path)
    except DataError as error:
        raise Problem(422, image.hide(str(error))) from error
    if height * width > max_pixels:
        raise Problem(
            413, f"image too large: {width}x{height} pixels, the limit is {max_pixels}: cut it into tiles first"
        )


def _stem(name: str) -> str:
    """The last part of a file's name without its ending, with harmless characters only."""
    last = re.split(r"[/\\]", name)[-1]
    return _ODD.sub("_", Path(last).stem if last else "").strip(" .")[:64] or "image"
