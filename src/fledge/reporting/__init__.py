"""An evaluation as files: JSON, Markdown, LaTeX, curves and a page."""

from __future__ import annotations

from pathlib import Path

from fledge.files import write_bytes, write_json
from fledge.reporting.page import report_page
from fledge.reporting.result import Result
from fledge.reporting.tables import curves_csv, latex_row, markdown, result_record

FILES = ("results.json", "table.md", "row.tex", "curves.csv", "report.html")


def write_report(result: Result, folder: Path, command: str) -> list[Path]:
    """Write the files named in ``FILES``; ``command`` is shown on the page. Returns their paths.

    Raises:
        ResourceError: the folder cannot be written.
    """
    write_json(folder / "results.json", result_record(result))
    texts = {"table.md": markdown, "row.tex": latex_row, "curves.csv": curves_csv}
    for name, text in texts.items():
        write_bytes(folder / name, text(result).encode())
    report_page(result, command).write(folder / "report.html")
    return [folder / name for name in FILES]
