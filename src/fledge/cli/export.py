"""``fledge export``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fledge.exporting import Export


class Target(StrEnum):
    """What the file is for."""

    onnx = "onnx"
    openvino = "openvino"
    torch_export = "torch-export"


def export(
    run: Annotated[Path, typer.Argument(help="Run folder or checkpoint.")],
    to: Annotated[Target, typer.Option("--to", help="onnx, openvino or torch-export.")] = Target.onnx,
    int8: Annotated[bool, typer.Option("--int8", help="8-bit integers; needs --calibration.")] = False,
    bf16: Annotated[bool, typer.Option("--bf16", help="bfloat16 (openvino, torch-export).")] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="Half precision (onnx, openvino).")] = False,
    dynamic: Annotated[
        bool, typer.Option("--dynamic", help="For any image size and number of images, not one of the training size.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="The file; default exports/<run> with what was chosen.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Dataset, or images, to prove the file on; default: the run's own.")
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="Its split; default: the recipe's eval_split.")] = None,
    calibration: Annotated[
        Path | None, typer.Option("--calibration", help="Folder of images that int8's scales are measured on.")
    ] = None,
    images: Annotated[int, typer.Option("--images", min=1, help="Compare boxes on so many images (fp32).")] = 8,
    max_drop: Annotated[
        float, typer.Option("--max-drop", min=0, max=1, help="AP that int8, bf16 or fp16 may lose, on the scale 0…1.")
    ] = 0.01,
) -> None:
    """Write the whole detector as one file for onnxruntime, OpenVINO or torch.export, and prove it on images.

    Normalisation, decoding and exact rotated suppression are in the graph. A file that finds other boxes than PyTorch,
    or loses too much average precision, is not written.

    Examples:

        fledge export runs/student --to onnx --dynamic

        fledge export runs/student --to openvino --int8 --calibration data/train/images

        fledge export runs/student --bf16 --to openvino --data data --split test --out student.xml
    """
    from fledge import exporting
    from fledge.errors import UsageError

    chosen = [name for name, wanted in (("int8", int8), ("bf16", bf16), ("fp16", fp16)) if wanted]
    if len(chosen) > 1:
        raise UsageError(f"two precisions: --{' and --'.join(chosen)}: give one")
    precision = chosen[0] if chosen else "fp32"
    made = exporting.export(
        run,
        to.value,
        precision,  # type: ignore[arg-type]
        dynamic,
        out,
        data,
        split,
        calibration,
        images,
        max_drop,
    )
    _print(made)


def _print(made: Export) -> None:
    from fledge.files import readable_size

    size = "any size" if made.record.size is None else "{1}x{0} px, one image at a time".format(*made.record.size)
    print(f"written: {made.path}: {readable_size(made.bytes)}, {size}")
    if made.agreement is not None:
        print(f"proved:  {made.agreement}")
    if made.ap is not None:
        before, after = made.ap
        for name in before:
            print(f"{name:8} {100 * before[name]:.2f} in PyTorch, {100 * after[name]:.2f} in {made.record.precision}")
    if made.record.runtime != "torch-export":
        print(f"next:    fledge detect {made.path} IMAGE --out detections")
