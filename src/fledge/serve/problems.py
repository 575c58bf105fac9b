"""Refusals as one JSON object, the "problem details" of RFC 9457."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from fledge.errors import DataError, FledgeError, NumericError, UsageError

log = logging.getLogger("uvicorn.error")


class Problem(Exception):  # noqa: N818 (RFC 9457's own word)
    """A request that is refused.

    Args:
        status: HTTP status code.
        detail: one line for the client, ``what: where: what to do``.
        retry_after: seconds after which another attempt makes sense.
    """

    def __init__(self, status: int, detail: str, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.retry_after = status, detail, retry_after

    def response(self) -> Response:
        """What the client gets."""
        body = {"title": HTTPStatus(self.status).phrase, "status": self.status, "detail": self.detail}
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return Response(json.dumps(body), self.status, headers, "application/problem+json")


def problem_of(error: FledgeError) -> Problem:
    """What a client is told of an error: its input, or the service's trouble."""
    if isinstance(error, DataError | UsageError):
        return Problem(422, str(error))
    return Problem(500 if isinstance(error, NumericError) else 503, str(error))


def install(app: FastAPI) -> None:
    """Make every refusal of ``app`` a problem; what nobody expected is logged here and not shown."""

    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)  # noqa: S101 (the handler's key)
        return error.response()

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        first = error.errors()[0]
        return Problem(422, f"{first['loc'][-1]}: {first['msg']}").response()

    async def standard(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        answer = Problem(error.status_code, str(error.detail)).response()
        answer.headers.update(error.headers or {})
        return answer

    async def gone(_: Request, __: Exception) -> Response:
        return Response(status_code=400)  # nobody reads it

    async def unexpected(_: Request, error: Exception) -> Response:
        log.error("a request failed", exc_info=error)
        return Problem(500, "internal error: it is in the log of the service: report it as a bug of fledge").response()

    app.add_exception_handler(Problem, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, standard)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(Exception, unexpected)
