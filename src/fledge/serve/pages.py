"""The service's two pages: one to drop an image on, one that says what the addresses take and return.

Both are whole in themselves: no script, style, picture or typeface from anywhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

from fledge.serve.limits import Limits
from fledge.visualize.markup import Markup, escape
from fledge.visualize.page import Page
from fledge.visualize.shell import content_policy, document
from fledge.visualize.style import page_script
from fledge.visualize.table import Column, Value
from fledge.visualize.viewer import class_rows, embedded, viewer_markup, viewer_script, viewer_style

_NO_FRAME = "; frame-ancestors 'none'"  # which a policy inside a page cannot say


def front_page(name: str, classes: Sequence[str], limits: Limits) -> tuple[str, str]:
    """The page to drop an image on, and the policy it is sent with."""
    script = viewer_script(_own("front.js"))
    policy = content_policy(script, connect_src="'self'")
    about = {"classes": class_rows(classes), "max_bytes": limits.max_bytes}
    shown = ", ".join(classes[:6]) + (f" and {len(classes) - 6} more" if len(classes) > 6 else "")
    body = Markup(
        f'<main class="front"><header><h1>{escape(name)}</h1><p>finds {escape(shown)} · '
        '<a href="docs">HTTP interface</a></p></header>'
        '<div class="drop"><p class="big">Drop an image here</p>'
        '<input type="file" id="file" accept="image/png,image/jpeg,image/tiff,image/bmp,image/jp2,.tif,.tiff,.jp2">'
        '<label class="button" for="file">Choose a file</label>'
        f'<p class="small">PNG, JPEG, TIFF, BMP or JPEG 2000, up to {limits.max_bytes / 1e6:g} MB and '
        f"{limits.max_pixels / 1e6:g} megapixels. It goes to this service and nowhere else, and is not kept.</p></div>"
        '<div class="line"><p class="status" role="status">No image yet.</p>'
        '<button type="button" class="save" hidden>Save JSON</button></div>'
        f"{viewer_markup()}</main><noscript>This page needs JavaScript; the service does not: see docs.</noscript>"
        f"{embedded(about, 'about')}"
    )
    style = viewer_style() + _own("front.css")
    return document(f"{name} · fledge", style, body, script, policy), policy + _NO_FRAME


def reference_page(schema: Mapping[str, Any]) -> tuple[str, str]:
    """What an OpenAPI schema says, as a page, and the policy it is sent with."""
    info = schema["info"]
    page = Page(info["title"], f"{info['description']} HTTP interface of fledge {info['version']}.")
    page.paragraph("The schema for programs is at `/openapi.json`, the page to drop an image on at `/`.")
    page.code(
        "curl -F image=@scene.png http://127.0.0.1:8000/detect\n"
        "curl -F image=@scene.tif 'http://127.0.0.1:8000/detect?format=geojson&score=0.5' -o scene.geojson\n"
        """curl -H 'Content-Type: application/json' -d '{"path": "site/scene.tif"}' http://127.0.0.1:8000/detect"""
    )
    for path, operations in schema["paths"].items():
        for verb, operation in operations.items():
            _describe(page, f"{verb.upper()} {path}", operation)
    page.heading("Errors", 3)
    page.paragraph(
        "An answer of 400 and above is one JSON object (RFC 9457) with `status`, `title` and `detail`, which says what "
        "is wrong and what to do."
    )
    return page.html(), content_policy(page_script()) + _NO_FRAME


def _describe(page: Page, title: str, operation: Mapping[str, Any]) -> None:
    page.heading(title)
    page.paragraph(operation.get("description", ""))
    parameters: list[list[Value]] = [
        [p["name"], str(p["schema"].get("default", "")), p.get("description", "")]
        for p in operation.get("parameters", ())
    ]
    if parameters:
        page.table([Column("Query"), Column("Default"), Column("")], parameters)
    bodies: list[list[Value]] = [
        [kind, _fields(content["schema"])]
        for kind, content in operation.get("requestBody", {}).get("content", {}).items()
    ]
    if bodies:
        page.table([Column("Body"), Column("")], bodies)
    answers: list[list[Value]] = [[code, what["description"]] for code, what in operation["responses"].items()]
    page.table([Column("Answer"), Column("")], answers)


def _fields(schema: Mapping[str, Any]) -> str:
    """What an object has in it, or that a body is the file itself."""

    def parts() -> Iterator[str]:
        for name, rule in schema["properties"].items():
            yield f"{name}: {rule.get('description', 'the file')}"

    return "; ".join(parts()) if "properties" in schema else "the file itself"


def _own(name: str) -> str:
    return files("fledge.serve").joinpath(name).read_text(encoding="utf-8")
