"""``fledge serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(
    model: Annotated[Path, typer.Argument(help="Run folder, checkpoint or exported file.")],
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8000,
    root: Annotated[
        Path | None, typer.Option("--root", help="Folder below which requests may name files; none: uploads only.")
    ] = None,
    max_mb: Annotated[float, typer.Option("--max-mb", min=0.001, help="Largest upload, megabytes.")] = 100,
    max_pixels: Annotated[int, typer.Option("--max-pixels", min=1, help="Largest image.")] = 100_000_000,
    timeout: Annotated[float, typer.Option("--timeout", min=0.01, help="Seconds for one request.")] = 60,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, help="Requests in work at once.")] = 8,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Offer a detector over HTTP: POST an image, get its objects; a page to drop images on; documentation at /docs.

    It listens on this machine only, unless --host says otherwise. It has no password and no encryption.

    Examples:

        fledge serve runs/student

        fledge serve runs/student --root imagery --max-pixels 400000000 --port 8080

        curl -F image=@scene.tif http://127.0.0.1:8000/detect
    """
    from importlib.util import find_spec

    from fledge.errors import UsageError

    missing = [name for name in ("fastapi", "uvicorn", "python_multipart") if find_spec(name) is None]
    if missing:
        raise UsageError(f"not installed: {', '.join(missing)}: fledge serve needs them: pip install 'fledge[serve]'")
    from fledge.runs import load_model
    from fledge.serve.limits import Limits
    from fledge.serve.server import serve as run

    limits = Limits(round(max_mb * 1_000_000), max_pixels, timeout, concurrency)
    run(load_model(model, device), model.resolve().name, host, port, root, limits)
