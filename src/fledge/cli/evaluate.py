"""``fledge evaluate``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fledge.cli.renaming import RemapOption, renaming
from fledge.evaluation.protocols import PROTOCOLS

if TYPE_CHECKING:
    from rich.table import Table

    from fledge.evaluation.cost import Cost

FIGURES = ("AP50", "AP75", "AP50:95")


def evaluate(
    run: Annotated[
        Path | None,
        typer.Argument(help="Run folder, checkpoint or exported file; none if --detections are given."),
    ] = None,
    detections: Annotated[
        Path | None, typer.Option("--detections", help="File or folder of detections, from any tool.")
    ] = None,
    ground_truth: Annotated[
        Path | None, typer.Option("--ground-truth", help="With --detections: the dataset folder.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Dataset folder; of a run by default the recipe's eval_data, or data."),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option("--split", help="Split; default: the recipe's eval_split. May be repeated, training split first."),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol",
            help=f"Whose rules: {', '.join(PROTOCOLS)}; default: box_area, or coco for a detector of horizontal boxes.",
        ),
    ] = "",
    remap: RemapOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Also write the figures to this .json file, or all tables and a page to this folder."
        ),
    ] = None,
    compare: Annotated[
        Path | None, typer.Option("--compare", help="Other detections: is the difference more than chance?")
    ] = None,
    trained_on: Annotated[
        Path | None, typer.Option("--trained-on", help="Folder of the training images, to look for those evaluated.")
    ] = None,
    merge: Annotated[
        str,
        typer.Option(
            "--merge",
            metavar="SCORE,IOU,IOU",
            help="How patches are merged into whole images where needed: least score, NMS in patches, NMS in images; "
            "or none.",
        ),
    ] = "0.05,0.5,0.1",
    submit: Annotated[
        Path | None,
        typer.Option("--submit", help="Instead of figures: this zip for the server of --protocol; no labels needed."),
    ] = None,
    skip_bad_labels: Annotated[
        bool, typer.Option("--skip-bad-labels", help="With --ground-truth: leave bad labels out and say how many.")
    ] = False,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Average precision by the rules of a protocol: of a trained detector, or of detections that any tool wrote.

    Of a detector also parameters, FLOPs and time.
    With several splits the gap between the first and each of the others is shown as well.

    Examples:

        fledge evaluate runs/student

        fledge evaluate runs/student --split train --split val

        fledge evaluate runs/student --data other --split test --protocol dota --out student.json

        fledge evaluate exports/student.onnx --data data --split test

        fledge evaluate --detections Task1 --ground-truth DOTA --split val --protocol dota --out report

        fledge evaluate runs/student --data DOTA/test/images --protocol dota --submit task1.zip

        fledge evaluate --detections ours.json --compare theirs.json --ground-truth HRSC --protocol hrsc_07,hrsc_12
    """
    exported = run is not None and run.is_file()  # without the records of a run, which name its training images
    _refuse_strays(
        {"--data": data, "--device": None if device == "auto" else device} if detections else {},
        {"--ground-truth": ground_truth, "--compare": compare, "--trained-on": None if exported else trained_on}
        if run
        else {},
    )
    if submit is not None:
        from fledge.cli.evaluate_files import write_submission

        write_submission(run, data, detections, protocol or "box_area", submit, merge, device)
    elif detections is not None or run is None:
        from fledge.cli.evaluate_files import Options, evaluate_files

        names = renaming(remap or [])
        more = Options(protocol or "box_area", names, compare, trained_on, merge, skip_bad_labels, out)
        evaluate_files(run, ground_truth, detections, split or [], more)
    else:
        names = renaming(remap or [])
        _of_run(run, data, [*split] if split else [None], protocol, names, out, device, trained_on)


def _refuse_strays(of_run: dict[str, Any], of_files: dict[str, Any]) -> None:
    """Refuse options of one form that were given with the other, rather than pass over them.

    Raises:
        UsageError: there is one.
    """
    from fledge.errors import UsageError

    for other, options in (("a run", of_run), ("--detections", of_files)):
        for name in (name for name, value in options.items() if value is not None):
            raise UsageError(f"{name} goes with {other}: leave it out, or see fledge evaluate --help")


def _of_run(
    run: Path,
    data: Path | None,
    splits: list[str | None],
    protocol: str,
    names: dict[str, str],
    out: Path | None,
    device: str,
    trained_on: Path | None,
) -> None:
    """Evaluate a detector on one split or several, and print what came of it."""
    from rich.console import Console

    from fledge import api
    from fledge.cli.evaluate_files import parts_table, show_run
    from fledge.errors import UsageError
    from fledge.evaluation.summary import evaluation_record, parts_record, splits_record
    from fledge.evaluation.trust import trust_line, trust_record
    from fledge.files import write_json
    from fledge.provenance import run_checks

    if len(set(splits)) < len(splits):
        raise UsageError(f"a split twice: --split {', '.join(map(str, splits))}: name each once")
    first, *others = protocol.split(",")
    results = [api.evaluate(run, data, name, first or None, device, remap=names) for name in splits]
    records = {r.dataset.split: evaluation_record(r.metrics, r.cost, r.about) for r in results}
    console = Console()
    for result, (name, record) in zip(results, records.items(), strict=True):
        record["parts"] = parts_record(result.case, result.metrics.protocol)
        console.print(_classes(record, f"{run} on {name}"))
        console.print(parts_table(record["parts"], _percent, "by size and aspect ratio"))
        print(f"{result.metrics.images} images of {result.dataset.root}")
        print("\n".join(_rules(record)))
        if result.horizontal and result.metrics.protocol.iou != "horizontal":
            print("note: the detector's boxes are horizontal, and these rules compare them with oriented ones")
        checks = run_checks(run, result.dataset, result.metrics, trained_on)
        print(trust_line(checks))
        record["trust"] = trust_record(checks)
        if others or (out and out.suffix != ".json"):
            folder = out / name if out and len(results) > 1 else out
            record |= show_run(run, result, checks, others, folder if out and out.suffix != ".json" else None)
    everything = splits_record(records, {r.dataset.split: r.metrics for r in results})
    for row in everything["gaps"]:
        console.print(_gap(row, records))
        if lacking := _one_sided(row, records):
            print(f"note: {', '.join(lacking)}: with objects in one of the two only, so the means are of other classes")
    print(_takes(results[-1].cost))
    if out and out.suffix == ".json":
        write_json(out, everything if len(records) > 1 else next(iter(records.values())))
        print(f"written: {out}")


def _takes(cost: Cost) -> str:
    """What one image costs, in a line."""
    time = f"{cost.milliseconds:.1f} ms (network and decoding in one)"
    if cost.decode_milliseconds is not None:
        time = f"{cost.milliseconds:.1f} + {cost.decode_milliseconds:.1f} ms (network + decoding)"
    return (
        f"{cost.parameters / 1e6:.2f} M parameters, {cost.flops / 1e9:.2f} GFLOPs and {time} an image at "
        f"{cost.size[1]}x{cost.size[0]} px (one thread)"
    )


def _classes(record: dict[str, Any], title: str) -> Table:
    """AP of each class and their mean on one split."""
    from rich.table import Table

    figures = _figures(record)
    table = Table("class", "objects", *figures, title=title)
    for name, row in record["classes"].items():
        table.add_row(name, str(row["objects"]), *(_percent(row[key]) for key in figures))
    table.add_row("mean", "", *(_percent(record[key]) for key in figures), style="bold")
    return table


def _figures(record: dict[str, Any]) -> list[str]:
    """Which means the protocol has."""
    return [name for name in FIGURES if name in record]


def _rules(record: dict[str, Any]) -> list[str]:
    """What has to be known to compare the figures with others."""
    rules, nms = record["protocol"], record["nms"]
    most = f", at most {rules['max_detections']} an image and class" if rules["max_detections"] else ""
    return [
        f"protocol: {rules['name']} ({rules['title']}); AP: {rules['interpolation']}; {rules['iou']}, to be "
        f"{rules['threshold']}; matched: {rules['matching']}{most}; difficult objects {rules['difficult']}",
        f"detections: scores from {nms['score_threshold']:g}, NMS at IoU {nms['iou']:g}, at most "
        f"{nms['max_detections']} a window before it",
        *(f"note: {note}" for note in record.get("notes", ())),
        f"labels: sha256 {record['labels_sha256'][:16]}",
    ]


def _gap(row: dict[str, Any], records: dict[str, dict[str, Any]]) -> Table:
    """Means on two splits and what the first has more."""
    from rich.table import Table

    first, other = row["split"], row["minus"]
    figures = _figures(row)
    table = Table("mean", *figures, title=f"{first} minus {other}")
    for name in (first, other):
        table.add_row(name, *(_percent(records[name][key]) for key in figures))
    table.add_row("gap", *(_percent(row[key]) for key in figures), style="bold")
    return table


def _one_sided(row: dict[str, Any], records: dict[str, dict[str, Any]]) -> list[str]:
    """The classes that have objects in one of two splits only."""
    first, other = (records[row[key]]["classes"] for key in ("split", "minus"))
    return [name for name in first if (first[name]["objects"] > 0) != (other[name]["objects"] > 0)]


def _percent(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{100 * value:.1f}".replace("-", "−")
