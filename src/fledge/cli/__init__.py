"""The command line: one file per command, each a thin face of a function in ``fledge.api`` or ``fledge.quickstart``.

Heavy imports happen inside the commands, so that ``fledge --help`` answers at once.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

import fledge
from fledge.cli.benchmark import benchmark
from fledge.cli.check import check
from fledge.cli.convert import convert
from fledge.cli.detect import detect
from fledge.cli.distill import distill
from fledge.cli.doctor import doctor
from fledge.cli.evaluate import evaluate
from fledge.cli.export import export
from fledge.cli.methods import methods
from fledge.cli.quickstart import quickstart
from fledge.cli.replay import replay
from fledge.cli.tile import tile
from fledge.cli.train import train
from fledge.errors import FledgeError

app = typer.Typer(
    name="fledge",
    help="Raise small oriented object detectors from big ones, for aerial and satellite imagery.",
    epilog="Start with `fledge quickstart`. Each command has examples: `fledge train --help`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    quickstart,
    train,
    distill,
    evaluate,
    export,
    benchmark,
    detect,
    tile,
    convert,
    check,
    replay,
    methods,
    doctor,
):
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
    with _one_voice():
        try:
            _recorded(app)()
        except FledgeError as error:
            if _show_traceback:
                traceback.print_exc()
            print(f"fledge: {error}", file=sys.stderr)
            raise SystemExit(error.exit_code) from None


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
