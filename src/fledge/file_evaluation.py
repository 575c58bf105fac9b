"""Evaluation of detections that are in files, whatever tool wrote them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fledge.data.datasets import find_splits, open_dataset
from fledge.data.labels import DetectionDataset
from fledge.engine.progress import progress
from fledge.errors import DataError, UsageError
from fledge.evaluation.average_precision import score
from fledge.evaluation.compare import DRAWS, compare
from fledge.evaluation.fingerprint import labels_sha256
from fledge.evaluation.merge import MergeRule, merge_patches, names_patches, patch_of
from fledge.evaluation.protocols import Protocol, protocol_named
from fledge.evaluation.results import case_from_files, classes_of, read_results
from fledge.evaluation.results.listing import Listing, listing_of
from fledge.evaluation.trust import UNKNOWN_SELECTION, check_objects, check_shared, check_trained_on
from fledge.reporting.result import Result
from fledge.reporting.submit import write_submission
from fledge.types import Detections


def evaluate_files(
    ground_truth: str | Path,
    detections: str | Path,
    split: str | None = None,
    protocol: str | Sequence[str] = "box_area",
    *,
    merge: MergeRule | None = MergeRule(),  # noqa: B008, a value
    compare_with: str | Path | None = None,
    trained_on: str | Path | None = None,
    remap: Mapping[str, str] | None = None,
    skip_bad_labels: bool = False,
    seed: int = 0,
) -> Result:
    """Average precision of detections in files.

    Args:
        ground_truth: dataset folder.
        detections: file or folder, see ``fledge.evaluation.results.FORMS``.
        split: of the ground truth; by default its held-out one, or its only one.
        protocol: its name, or the names of several to be shown side by side.
        merge: how patches are merged where the detections name patches and the ground truth whole images; None: never.
        compare_with: other detections of the same images; the difference of the first figure is bootstrapped.
        trained_on: folder of the images that the detector was trained on, to look for those evaluated.
        remap: class names of the labels to read under another name; an empty one ignores their objects.
        skip_bad_labels: leave bad labels out and say how many.
        seed: of the bootstrap.

    Raises:
        UsageError: unknown protocol or split.
        DataError: ground truth or detections cannot be used; all faults are named.
    """
    rules = [protocol_named(name) for name in ([protocol] if isinstance(protocol, str) else protocol)]
    root = Path(ground_truth)
    dataset = open_dataset(root, _split(root, split), remap=remap, skip_bad_labels=skip_bad_labels)
    paths = [Path(detections)] + ([] if compare_with is None else [Path(compare_with)])
    read = [_read(dataset, path, rules[0], merge) for path in paths]
    classes = classes_of(dataset, *(listing for listing, _ in read))
    cases = [case_from_files(dataset, listing, classes) for listing, _ in read]
    case, about = cases[0], read[0][1] | {"labels_sha256": labels_sha256(replace(cases[0], classes=dataset.classes))}
    metrics = tuple(score(case, rule) for rule in rules)
    comparison = None
    if len(cases) == 2:
        about["compared_with"] = read[1][1]["detections"]
        with progress("bootstrap", DRAWS) as advance:
            comparison = compare(cases[0], cases[1], rules[0], seed=seed, advance=advance)
    checks = [check_objects(metrics[0]), UNKNOWN_SELECTION, check_trained_on(dataset, trained_on, progress)]
    shared = check_shared(dataset)
    return Result(
        Path(detections).name, dataset, case, metrics, about, (*checks, *([shared] if shared else [])), comparison
    )


def submit_files(
    detections: str | Path,
    out: str | Path,
    protocol: str = "dota",
    merge: MergeRule | None = MergeRule(),  # noqa: B008, a value
) -> Path:
    """A zip for the server of a benchmark, from detections in files.

    Args:
        detections: file or folder, see ``fledge.evaluation.results.FORMS``.
        out: the zip.
        protocol: one that has a server: see ``fledge.reporting.submit``.
        merge: how detections on patches are merged; None: not.

    Raises:
        UsageError: the protocol has no server.
        DataError: the detections cannot be used.
    """
    listing = read_results(Path(detections), horizontal=protocol_named(protocol).iou == "horizontal")
    if merge is not None and any(patch_of(name) for name in listing.images):
        listing = merge_patches(listing, merge)
    return write_submission(listing, protocol, Path(out))


def submit_detections(found: Sequence[Detections], files: Sequence[Path], out: str | Path, protocol: str) -> Path:
    """A zip for the server of a benchmark, from what was found in some images.

    Args:
        found: one per image.
        files: the images.
        out, protocol: see ``submit_files``.

    Raises:
        UsageError: the protocol has no server.
        DataError: classes that it does not know.
    """
    sizes = {}
    for detections, file in zip(found, files, strict=True):
        height, width = detections.frame.size or (0, 0)
        sizes[detections.frame.image_id] = (file.name, height, width)
    return write_submission(listing_of(found), protocol, Path(out), sizes)


def _read(
    dataset: DetectionDataset, path: Path, protocol: Protocol, merge: MergeRule | None
) -> tuple[Listing, dict[str, Any]]:
    """Detections of the images of a split, and how they were read and merged."""
    listing = read_results(path, dataset, horizontal=protocol.iou == "horizontal")
    read = {"path": str(path), "form": listing.form, "count": len(listing)}
    notes = [*listing.notes, *dataset.notes]
    if listing.horizontal and protocol.iou != "horizontal":
        notes.append("the detections are horizontal boxes; this protocol compares oriented ones")
    listing, merged = _merged(listing, dataset, protocol, merge)
    return listing, {"detections": read, "merge": merged, "notes": notes}


def _merged(
    listing: Listing, dataset: DetectionDataset, protocol: Protocol, rule: MergeRule | None
) -> tuple[Listing, dict[str, Any] | None]:
    if not names_patches(listing, dataset.ids):
        return listing, None
    if protocol.unit == "patch":
        raise DataError(
            f"patches expected: {dataset.root}: protocol {protocol.name} compares patches, and these are whole images: "
            "give the folder that `fledge tile` made, or another protocol"
        )
    if rule is None:
        raise UsageError("the detections are of patches, the ground truth of whole images: leave out --merge none")
    whole = merge_patches(listing, rule)
    counts = {"patches": len(listing.images), "before": len(listing), "after": len(whole)}
    return whole, {**rule._asdict(), **counts}


def _split(root: Path, split: str | None) -> str:
    if split is not None:
        return split
    roles = find_splits(root)
    if len(roles) == 1:
        return next(iter(roles.values()))
    if "val" in roles:
        return roles["val"]
    raise UsageError(f"which split: {root}: give one with --split")
