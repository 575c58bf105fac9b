"""``fledge benchmark``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def benchmark(
    models: Annotated[list[Path], typer.Argument(help="Run folders, checkpoints and exported files.")],
    threads: Annotated[list[int] | None, typer.Option("--threads", min=1, help="CPU threads; may be repeated.")] = None,
    size: Annotated[
        list[int] | None, typer.Option("--size", min=32, help="Side of the images; may be repeated. Default: its own.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Labelled dataset for AP, or a folder of images. Default: noise.")
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="Its split; default: the recipe's eval_split.")] = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Timed images of each row.")] = 30,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for benchmark.json, benchmark.md and benchmark.html.")
    ] = None,
) -> None:
    """Latency, memory, size, FLOPs, parameters and AP of models, side by side.

    Examples:

        fledge benchmark runs/student exports/student.onnx exports/student.xml

        fledge benchmark runs/student exports/student-dynamic.onnx --size 512 --size 1024 --threads 1 --threads 4

        fledge benchmark runs/student exports/student.onnx --data data --split test --out benchmark
    """
    from rich.console import Console
    from rich.table import Table

    from fledge.benchmark import as_json
    from fledge.benchmark import benchmark as measure
    from fledge.files import write_bytes, write_json
    from fledge.visualize.benchmark_page import HEADINGS, benchmark_page, cells, markdown

    rows = as_json(measure(models, tuple(threads or [1]), tuple(size or []), data, split, repeats))
    table = Table(*HEADINGS)
    for row in rows:
        table.add_row(*cells(row))
    Console(width=None if Console().is_terminal else 200).print(table)
    if out is not None:
        write_json(out / "benchmark.json", rows)
        write_bytes(out / "benchmark.md", markdown(rows).encode())
        write_bytes(out / "benchmark.html", benchmark_page(rows, _facts(data)).html().encode())
        print(f"written: {out}: benchmark.json, benchmark.md, benchmark.html")


def _facts(data: Path | None) -> dict[str, str]:
    import os
    import platform
    from importlib.metadata import PackageNotFoundError, version

    def installed(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "not installed"

    names = ("fledge", "torch", "onnxruntime", "openvino")
    return {
        "versions": ", ".join(f"{name} {installed(name)}" for name in names),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "images": str(data) if data else "noise",
    }
