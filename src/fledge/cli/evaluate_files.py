"""The form of ``fledge evaluate`` that reads detections from files."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from rich.table import Table

    from fledge.api import Evaluation
    from fledge.evaluation.merge import MergeRule
    from fledge.evaluation.trust import Check
    from fledge.reporting.result import Result


_LEAST_SCORE = 0.05  # what servers and merging take


class Options(NamedTuple):
    """What is asked for, as ``fledge.api.evaluate_files`` names it."""

    protocol: str
    remap: Mapping[str, str]
    compare: Path | None
    trained_on: Path | None
    merge: str
    skip_bad_labels: bool
    out: Path | None


def evaluate_files(
    run: Path | None, ground_truth: Path | None, detections: Path | None, splits: Sequence[str], options: Options
) -> None:
    """Evaluate detections in files and print the result.

    Raises:
        UsageError: arguments that do not go together.
    """
    from fledge import api
    from fledge.errors import UsageError

    if detections is None or ground_truth is None or run is not None or len(splits) > 1:
        raise UsageError(
            "what to evaluate: give a run folder, or --detections with --ground-truth and at most one --split"
        )
    result = api.evaluate_files(
        ground_truth,
        detections,
        splits[0] if splits else None,
        options.protocol.split(","),
        merge=_merging(options.merge),
        compare_with=options.compare,
        trained_on=options.trained_on,
        remap=options.remap,
        skip_bad_labels=options.skip_bad_labels,
    )
    show(result, options.out)


def write_submission(
    run: Path | None, data: Path | None, detections: Path | None, protocol: str, out: Path, merge: str, device: str
) -> None:
    """Write a zip for a benchmark's server: of a run on a folder of images, or of detections in files.

    Raises:
        UsageError: arguments that do not go together.
    """
    from fledge import api
    from fledge.errors import UsageError
    from fledge.file_evaluation import submit_detections, submit_files
    from fledge.scenes import scene_files

    if detections is not None and run is None:
        submit_files(detections, out, protocol, _merging(merge))
    elif run is not None and data is not None and detections is None:
        files = scene_files([data])
        submit_detections(api.detect(run, files, _LEAST_SCORE, device), files, out, protocol)
    else:
        raise UsageError("what to submit: give a run folder and --data with the images, or --detections")
    print(f"written: {out}")


def _merging(text: str) -> MergeRule | None:
    """The rule of --merge.

    Raises:
        UsageError: not three numbers, and not ``none``.
    """
    from fledge.errors import UsageError
    from fledge.evaluation.merge import MergeRule

    if text == "none":
        return None
    try:
        return MergeRule(*(float(number) for number in text.split(",")))
    except (ValueError, TypeError) as error:
        raise UsageError(f"not SCORE,IOU,IOU: --merge {text}: write for example --merge 0.05,0.5,0.1") from error


def show(result: Result, out: Path | None) -> None:
    """Print a result; write it to ``out``: a JSON file, or a folder with everything."""
    from rich.console import Console

    from fledge.evaluation.summary import parts_record
    from fledge.evaluation.trust import trust_line
    from fledge.files import write_json
    from fledge.reporting.tables import comparison_line, percent, result_record, rules

    console, first = Console(), result.metrics[0].protocol
    console.print(_table(result))
    by = f" ({first.name})" if len(result.metrics) > 1 else ""
    console.print(parts_table(parts_record(result.case, first), percent, f"by size and aspect ratio{by}"))
    print("\n".join(rules(result)))
    print(trust_line(result.checks))
    if result.comparison:
        print(comparison_line(result))
    if out and out.suffix == ".json":
        write_json(out, result_record(result))
        print(f"written: {out}")
    elif out:
        _write(result, out)


def show_run(
    run: Path, evaluation: Evaluation, checks: Sequence[Check], protocols: Sequence[str], out: Path | None
) -> dict[str, Any]:
    """Print what further protocols make of an evaluated run, beside the first, and write everything to ``out``.

    Returns:
        The figures of all protocols as plain values, if there are several; otherwise nothing.
    """
    from rich.console import Console

    from fledge.evaluation.average_precision import score
    from fledge.evaluation.protocols import protocol_named
    from fledge.reporting.result import Result
    from fledge.reporting.tables import result_record, rules

    case = evaluation.case
    metrics = (evaluation.metrics, *(score(case, protocol_named(name)) for name in protocols))
    result = Result(run.name, evaluation.dataset, case, metrics, evaluation.about, tuple(checks))
    if protocols:
        Console().print(_table(result))
        print("\n".join(rules(result)[1 : len(metrics)]))
    if out:
        _write(result, out)
    return result_record(result) if protocols else {}


def parts_table(
    parts: Mapping[str, Mapping[str, Mapping[str, Any]]], shown: Callable[[float], str], title: str
) -> Table:
    """Objects and means of each size and aspect ratio, from a record's ``parts``."""
    from rich.table import Table

    rows = {f"{kind}: {name}": dict(part) for kind, named in parts.items() for name, part in named.items()}
    figures = [key for key in next(iter(rows.values())) if key != "objects"]
    table = Table("part", "objects", *figures, title=title)
    for name, part in rows.items():
        values = (math.nan if part[key] is None else part[key] for key in figures)
        table.add_row(name, str(part["objects"]), *map(shown, values))
    return table


def _write(result: Result, out: Path) -> None:
    from fledge.reporting import write_report

    command = shlex.join(["fledge", *sys.argv[1:]])
    print(f"written: {', '.join(str(path) for path in write_report(result, out, command))}")


def _table(result: Result) -> Table:
    from rich.table import Table

    from fledge.reporting.tables import columns, percent

    heads = columns(result)
    split = f" on {result.dataset.split}" if result.dataset.split else ""
    table = Table(title=f"{result.name}{split}")
    for head in ("class", "objects", *(head.replace(" ", "\n") for head, _, _ in heads)):
        table.add_column(head, overflow="fold")
    for k, (name, count) in enumerate(zip(result.case.classes, result.metrics[0].objects.tolist(), strict=True)):
        table.add_row(name, str(count), *(percent(values[k]) for _, values, _ in heads))
    table.add_row("mean", "", *(percent(mean) for _, _, mean in heads), style="bold")
    return table
