"""The command line: one file per command, each a thin face of a function in ``fledge.api`` or ``fledge.quickstart``.

Heavy imports happen inside the commands, so that ``fledge --help`` answers at once.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

import fledge
from fledge.cli.benchmark import benchmark
from fledge.cli.check import check
from fledge.cli.compare import compare
from fledge.cli.convert import convert
from fledge.cli.datasets import datasets
from fledge.cli.detect import detect
from fledge.cli.distill import distill
from fledge.cli.doctor import doctor
from fledge.cli.evaluate import evaluate
from fledge.cli.export import export
from fledge.cli.map import map as map_results
from fledge.cli.methods import methods
from fledge.cli.pictures import pictures
from fledge.cli.quickstart import quickstart
from fledge.cli.replay import replay
from fledge.cli.serve import serve
from fledge.cli.study import study
from fledge.cli.subset import subset
from fledge.cli.tile import tile
from fledge.cli.train import train
from fledge.errors import FledgeError, ResourceError

app = typer.Typer(
    name="fledge",
    help="Raise small oriented object detectors from big ones, for aerial and satellite imagery.",
    epilog="Start with `fledge quickstart`. Each command has examples: `fledge train --help`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = (
    quickstart, train, distill, evaluate, study, compare, pictures, export, benchmark, detect, map_results, serve, tile,
    convert, check, subset, replay, datasets, methods, doctor,
)  # fmt: skip
for command in COMMANDS:
    app.command()(command)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"fledge {fledge.__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the whole traceback of an error.")] = False,
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Options of every command."""
    global _show_traceback
    _show_traceback = debug


_show_traceback = False


def main() -> None:
    """Run the command line; errors of the user become one line and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be text
    with _one_voice():
        try:
            _recorded(app)()
        except FledgeError as error:
            _end(str(error), error.exit_code)
        except OSError as error:  # a path that the system does not take, such as one too long, wherever it is looked at
            if error.filename is None:
                raise
            _end(f"{error.strerror}: {error.filename}: check the path", ResourceError.exit_code)


def _end(message: str, code: int) -> NoReturn:
    if _show_traceback:
        traceback.print_exc()
    print(f"fledge: {message}", file=sys.stderr)
    raise SystemExit(code) from None


@contextmanager
def _one_voice() -> Iterator[None]:
    """Of the processes that torchrun starts, the first one prints."""
    if os.environ.get("RANK", "0") == "0":
        yield
        return
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        yield


def _recorded(run: Callable[[], Any]) -> Callable[[], Any]:
    """Under torchrun, leave an error where its launcher finds it, so that it names the first process that failed."""
    if "TORCHELASTIC_ERROR_FILE" not in os.environ:
        return run
    from torch.distributed.elastic.multiprocessing.errors import record

    return record(run)
