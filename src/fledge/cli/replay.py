"""``fledge replay``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def replay(
    file: Annotated[Path, typer.Argument(help="A nonfinite-….safetensors from a run folder.")],
    teacher: Annotated[Path | None, typer.Option("--teacher", help="The teacher's run, if it has moved.")] = None,
) -> None:
    """Run a step that stopped a training again, and name the operation that made a number not finite.

    The step is computed on the CPU, in the precision of its training and in float64.

    Examples:

        fledge replay runs/student/nonfinite-step-00000120-rank0.safetensors
    """
    from fledge.replay import replay as run

    result = run(file, teacher)
    print(f"{result.box.meta.get('message', file)}\n")
    for rerun in result.reruns:
        terms = ", ".join(f"{name} {value:.6g}" for name, value in rerun.terms.items())
        print(f"{rerun.precision:8} {terms or 'no loss'}")
        if rerun.gradients:
            print(f"{'':8} gradient not finite: {', '.join(rerun.gradients[:5])} ({len(rerun.gradients)} in all)")
        print(f"{'':8} first made by: {rerun.origin or 'nothing: all finite'}")
    print(f"\n{result.verdict}")
