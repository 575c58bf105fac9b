"""The outer shape of a self-contained HTML page, and the policy that keeps it to itself."""

from __future__ import annotations

import base64
import hashlib

from fledge.visualize.markup import Markup, escape


def content_policy(script: str, **also: str) -> str:
    """A Content-Security-Policy that allows one script, by hash, styles and pictures of the page itself, nothing else.

    Args:
        script: the text between the page's ``<script>`` tags.
        also: further directives by name, ``_`` for ``-``, such as ``connect_src="'self'"``; they replace ours.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    directives = {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": "'unsafe-inline'",
        "script-src": f"'sha256-{digest}'",
        "base-uri": "'none'",
        "form-action": "'none'",
        **{name.replace("_", "-"): value for name, value in also.items()},
    }
    return "; ".join(f"{name} {value}" for name, value in directives.items())


def document(title: str, style: str, body: Markup, script: str, policy: str | None = None) -> str:
    """A whole page.

    Args:
        title: of the window.
        style: style sheet.
        body: what is in ``<body>``.
        script: run after the body; empty for none.
        policy: Content-Security-Policy in the page; by default ``content_policy(script)``.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy or content_policy(script)}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title>'
        f"<style>{style}</style></head>\n<body>{body}<script>{script}</script></body></html>\n"
    )
