"""The service: its addresses, and what each refuses."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

import fledge
from fledge.errors import FledgeError
from fledge.serve import problems
from fledge.serve.answers import answer
from fledge.serve.detector import ServedDetector
from fledge.serve.guard import Guard
from fledge.serve.limits import DEFAULT, Limits
from fledge.serve.pages import front_page, reference_page
from fledge.serve.problems import Problem, problem_of
from fledge.serve.uploads import Given, check_pixels, given
from fledge.serve.worker import Check, Worker
from fledge.visualize.images import data_uri

PREVIEW_SIDE = 3000


class AnswerFormat(StrEnum):
    """How objects are returned: GeoJSON where the image is georeferenced, in its pixels, or the first that fits."""

    auto = "auto"
    geojson = "geojson"
    pixels = "pixels"


class Health(BaseModel):
    """What runs here."""

    status: str
    version: str
    model: str
    sha256: str
    classes: list[str]


@dataclass(frozen=True)
class Wish:
    """What a client wants to know of an image."""

    score: float
    form: str
    preview: bool


IMAGE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"image": {"type": "string", "format": "binary"}},
                    "required": ["image"],
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {"path": {"type": "string", "description": "below the service's --root"}},
                    "required": ["path"],
                    "additionalProperties": False,
                }
            },
        },
    }
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "the objects",
        "content": {"application/json": {"schema": {}}, "application/geo+json": {"schema": {}}},
    },
    400: {"description": "the body is not what its content type says"},
    403: {"description": "a path outside the root, or a request of a foreign page"},
    404: {"description": "no such file below the root"},
    413: {"description": "too many bytes or pixels"},
    415: {"description": "another content type"},
    422: {"description": "no readable image, or a parameter that cannot be right"},
    429: {"description": "too many requests in work"},
    503: {"description": "no result in time"},
}


def make_app(
    detector: ServedDetector, limits: Limits = DEFAULT, root: Path | None = None, hosts: Collection[str] | None = None
) -> FastAPI:
    """The service as an ASGI application.

    Args:
        detector: what computes.
        limits: of one request.
        root: folder below which clients may name files; None: uploads only.
        hosts: names the service answers to; None: any.
    """
    worker = Worker(limits)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        worker.close()

    # FastAPI's own pages of documentation load scripts from elsewhere.
    app = FastAPI(
        title=f"fledge: {detector.name}",
        version=fledge.__version__,
        description="Finds oriented objects in aerial and satellite images.",
        docs_url=None,
        redoc_url=None,
        lifespan=life,
    )
    problems.install(app)
    app.add_middleware(Guard, hosts=hosts)

    @app.get("/health", response_description="what runs here")
    async def health() -> Health:
        """The model, its hash, and the version of fledge."""
        return Health(
            status="ok",
            version=fledge.__version__,
            model=detector.name,
            sha256=detector.model.fingerprint,
            classes=list(detector.model.classes),
        )

    @app.post(
        "/detect",
        responses=ANSWERS,
        openapi_extra=IMAGE_BODY,
        response_class=Response,
    )
    async def detect(
        request: Request,
        score: Annotated[float, Query(ge=0, le=1, description="leave out detections below")] = 0.3,
        format: Annotated[AnswerFormat, Query(description="`auto`: GeoJSON if georeferenced")] = AnswerFormat.auto,
        preview: Annotated[bool, Query(description="with pixels: a reduced picture of the image, too")] = False,
    ) -> Response:
        """Find the objects of an image: an upload, or a file below the root."""
        wish = Wish(score, format.value, preview)
        async with worker.admitted(), given(request, limits.max_bytes, root, worker.later) as image:
            return await worker.run(request, lambda check: _found(detector, image, wish, limits.max_pixels, check))

    _add_pages(app, detector, limits)
    return app


def _add_pages(app: FastAPI, detector: ServedDetector, limits: Limits) -> None:
    """The page to drop an image on, and the one that documents the service."""
    front, policy = front_page(detector.name, detector.model.classes, limits)
    reference = cache(lambda: reference_page(app.openapi()))  # all addresses are known by the first request

    @app.get("/", include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(front, headers={"Content-Security-Policy": policy})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        text, own_policy = reference()
        return HTMLResponse(text, headers={"Content-Security-Policy": own_policy})


def _found(detector: ServedDetector, image: Given, wish: Wish, max_pixels: int, check: Check) -> Response:
    """The answer to one request, computed in the worker's thread."""
    check()
    check_pixels(image, max_pixels)
    try:
        content, kind = answer(detector.detect(image.path, image.name, wish.score, check), wish.form)
        if wish.preview and kind == "application/json":
            content["preview"] = data_uri(detector.picture(image.path, PREVIEW_SIDE))
    except FledgeError as error:
        problem = problem_of(error)
        raise Problem(problem.status, image.hide(problem.detail)) from error
    return Response(json.dumps(content, allow_nan=False), media_type=kind)
