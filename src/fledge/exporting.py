"""From a run folder to an exported file that has shown that it finds the same boxes."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fledge.data.datasets.folders import image_files
from fledge.data.labels import DetectionDataset
from fledge.data.raster import read_image
from fledge.data.transforms import pad_colour
from fledge.engine.progress import say
from fledge.errors import DataError, ResourceError, UsageError
from fledge.export.graph import DetectorGraph
from fledge.export.model import ExportedModel, load_exported
from fledge.export.onnx_file import onnx_bytes, quantised
from fledge.export.openvino_file import converted, openvino_bytes, quantised_openvino
from fledge.export.parity import Agreement
from fledge.export.program import ProgramRunner, write_program
from fledge.export.proof import same_boxes, same_precision, window_of
from fledge.export.record import Precision, Record, Runtime
from fledge.export.trace import need, record_graph, to_onnx
from fledge.files import remove_orphans, sync, sync_folder, temporary
from fledge.inference.model import TorchModel
from fledge.recipe import Recipe
from fledge.runs import default_protocol, load_predictor, open_split

Image = NDArray[np.uint8]

SUFFIX: dict[Runtime, str] = {"onnx": ".onnx", "openvino": ".xml", "torch-export": ".pt2"}
PACKAGES: dict[Runtime, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "torch-export": (),
}
# The precisions a runtime has on a CPU.
PRECISIONS: dict[Runtime, tuple[Precision, ...]] = {
    "onnx": ("fp32", "fp16", "int8"),
    "openvino": ("fp32", "fp16", "bf16", "int8"),
    "torch-export": ("fp32", "bf16"),
}
_CALIBRATION = 64  # images at most
_SCORED = 200  # images at most


@dataclass(frozen=True)
class Export:
    """What ``export`` made.

    Attributes:
        path: the file; OpenVINO's weights lie beside it in a ``.bin`` file.
        record: what it says of itself.
        bytes: size of the file or files.
        agreement: of its boxes with PyTorch's (fp32 only).
        ap: AP50 and AP50:95 (0…1) of PyTorch in float32 and of the file (other precisions only).
    """

    path: Path
    record: Record
    bytes: int
    agreement: Agreement | None = None
    ap: tuple[dict[str, float], dict[str, float]] | None = None


def export(
    run: str | Path,
    to: Runtime = "onnx",
    precision: Precision = "fp32",
    dynamic: bool = False,
    out: str | Path | None = None,
    data: str | Path | None = None,
    split: str | None = None,
    calibration: str | Path | None = None,
    images: int = 8,
    max_drop: float = 0.01,
) -> Export:
    """Write a trained detector as one file for another runtime, and prove the file on images.

    In float32 its boxes must be those of PyTorch; in lower precision its average precision may fall by ``max_drop``. A
    file that fails is removed.

    Args:
        run: run folder or checkpoint.
        to: onnx, openvino or torch-export.
        precision: fp32, fp16, bf16 or int8, as far as the runtime has it.
        dynamic: for any image size and number of images; otherwise for one image of ``image_size`` squared.
        out: the file; default ``exports/<run>`` with precision, ``-dynamic`` and the runtime's suffix.
        data: dataset (or, in fp32, folder of images) to prove the file on; default: the run's own.
        split: of the dataset; default: the recipe's ``eval_split``.
        calibration: folder of images that int8's scales are measured on; 64 of them at most.
        images: how many images to compare boxes on (fp32); average precision is measured on 200 at most.
        max_drop: of AP50 and of AP50:95, on the scale 0…1, in lower precision.

    Raises:
        UsageError: a package is missing, or the combination is none.
        DataError: there is no checkpoint, or nothing to prove the file on.
        NumericError: the file finds other boxes, or loses too much average precision.
    """
    _check(to, precision, calibration)
    predictor, recipe = load_predictor(Path(run), "cpu")
    model = predictor.model
    record = _record(model, recipe, to, precision, dynamic)
    path = Path(out) if out else Path("exports") / _name(Path(run), record)
    if path.suffix != SUFFIX[to]:
        raise UsageError(f"wrong ending: --out {path}: {to} files end in {SUFFIX[to]}")
    folder = Path(data or recipe.eval_data or recipe.data)
    dataset = _dataset(recipe, predictor.classes, folder, split, labelled=precision != "fp32")
    with _workshop(path) as workshop:
        part = workshop / path.name
        say(f"export: {run} for {to}, {precision}, {'any size' if dynamic else f'{recipe.image_size} px'}")
        scales = _spread(image_files(Path(calibration)), _CALIBRATION, calibration) if calibration else []
        _write(part, model, record, [pixels for _, pixels in _windows(scales, model, record)])
        other, size = _read(part), sum(file.stat().st_size for file in _files(part))
        if dataset is None or precision == "fp32":
            files = _spread(image_files(folder) if dataset is None else dataset.paths, images, folder)
            agreement = same_boxes(model, other, record, _windows(files, model, record), (1, 4))
            made = Export(path, record, size, agreement)
        else:
            rules = default_protocol(recipe)
            made = Export(path, record, size, None, same_precision(model, other, dataset, max_drop, precision, rules))
        _publish(part, path)
    return made


def _check(to: Runtime, precision: Precision, calibration: str | Path | None) -> None:
    if precision not in PRECISIONS[to]:
        able = [name for name, known in PRECISIONS.items() if precision in known]
        raise UsageError(
            f"{to} has no {precision} on a CPU: use {', '.join(PRECISIONS[to])}, or --to {' or '.join(able)}"
        )
    if (precision == "int8") != (calibration is not None):
        raise UsageError("int8, and only int8, needs images to measure its scales on: give --int8 --calibration DIR")
    need(*PACKAGES[to], *(("nncf",) if (to, precision) == ("openvino", "int8") else ()))


def _name(run: Path, record: Record) -> str:
    words = [run.resolve().name]
    words += [record.precision] if record.precision != "fp32" else []
    words += ["dynamic"] if record.size is None else []
    return "-".join(words) + SUFFIX[record.runtime]


def _record(model: TorchModel, recipe: Recipe, to: Runtime, precision: Precision, dynamic: bool) -> Record:
    detector = model.module
    mean, std = (tuple(x.tolist()) for x in (detector.mean, detector.std))  # type: ignore[operator]
    return Record(
        runtime=to,
        precision=precision,
        size=None if dynamic else (recipe.image_size, recipe.image_size),
        classes=model.classes,
        image_size=model.image_size,
        overlap=model.overlap,
        fit=model.fit,
        short_side=model.short_side,
        pixel_scale=model.pixel_scale,
        nms_iou=model.nms_iou,
        score_threshold=recipe.score_threshold,
        max_detections=recipe.max_detections,
        bands=recipe.bands,
        pixel_range=recipe.pixel_range,
        mean=mean,
        std=std,
        padding=pad_colour(model.pixels.channels),
        recipe=_without_folders(recipe),
        weights=model.fingerprint,
    )


def _without_folders(recipe: Recipe) -> dict[str, Any]:
    """The settings, with the names of files and folders but not where they lie on the machine of the training."""
    settings = recipe.model_dump(mode="json")
    paths = ("data", "eval_data", "teacher", "weights")
    return {key: Path(value).name if key in paths else value for key, value in settings.items()}


def _dataset(
    recipe: Recipe, classes: Sequence[str], folder: Path, split: str | None, labelled: bool
) -> DetectionDataset | None:
    """The split to prove the file on, 200 images of it at most; None for a folder of images, where that will do."""
    if not folder.is_dir():
        raise DataError(f"no images to prove the export on: {folder} is not there: give --data DIR")
    if not labelled and split is None and image_files(folder):
        return None
    dataset = open_split(recipe, folder, split or recipe.eval_split, classes)
    return dataset.subset(np.linspace(0, len(dataset) - 1, min(len(dataset), _SCORED)).round().astype(int).tolist())


def _spread(files: Sequence[Path], count: int, folder: str | Path) -> list[Path]:
    """At most ``count`` image files, spread evenly."""
    if not files:
        raise DataError(f"no images: {folder}: give a folder with images in it")
    return [files[i] for i in sorted(set(np.linspace(0, len(files) - 1, count).round().astype(int).tolist()))]


def _windows(files: Sequence[Path], model: TorchModel, record: Record) -> list[tuple[str, Image]]:
    """Names and middle windows of image files."""
    return [(f.name, window_of(model, read_image(f, model.pixels), record.size, record.padding)) for f in files]


def _write(path: Path, model: TorchModel, record: Record, calibration: Sequence[Image]) -> None:
    """Write the file under ``path``, with the precision of the record."""
    detector = copy.deepcopy(model.module).eval()
    if record.precision in ("fp16", "bf16") and record.runtime != "openvino":
        detector = detector.to(torch.float16 if record.precision == "fp16" else torch.bfloat16)
    graph = DetectorGraph(detector, record.padding).eval()  # type: ignore[arg-type]
    channels = model.pixels.channels
    program = record_graph(graph, channels, record.size, batch=record.runtime != "torch-export")
    if record.runtime == "torch-export":
        write_program(program, record, path)
        return
    plain = to_onnx(program)
    shown = (image.transpose(2, 0, 1)[None].copy() for image in calibration)
    if record.runtime == "onnx":
        path.write_bytes(onnx_bytes(quantised(plain, shown, path.parent) if calibration else plain, record))
        return
    network = converted(plain.SerializeToString())
    if calibration:
        network = quantised_openvino(network, shown)
    xml, weights = openvino_bytes(network, record, path.parent)
    path.with_suffix(".bin").write_bytes(weights)
    path.write_bytes(xml)


def _read(path: Path) -> ExportedModel:
    """The file just written, as others will read it."""
    if path.suffix != ".pt2":
        return load_exported(path)
    record, runner = ProgramRunner.open(path)
    return ExportedModel(record, runner, "", path)


def _files(path: Path) -> list[Path]:
    """The files of an export, the one that names it last."""
    return [file for file in (path.with_suffix(".bin"), path) if file.exists() or file == path]


def _publish(part: Path, path: Path) -> None:
    """Give the proven files their final names."""
    for file in _files(part):
        sync(file)
        file.replace(path.with_name(file.name))
    sync_folder(path.parent)


@contextmanager
def _workshop(path: Path) -> Iterator[Path]:
    """A folder beside ``path`` that is gone afterwards."""
    folder = temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_orphans(path.parent)
        folder.mkdir()
        yield folder
    except OSError as error:
        raise ResourceError(
            f"cannot write: {path}: {error.strerror or error}: check the folder and free space"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
