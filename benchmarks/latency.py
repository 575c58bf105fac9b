"""How long one image takes, from bytes to boxes: PyTorch, onnxruntime and OpenVINO, float32 and int8, on one thread.

    python benchmarks/latency.py runs/quickstart/student --data runs/quickstart/data --split test --size 1024

Exports each run for any size and, with --calibration, in int8 for its own size, and measures them side by side. A
run with random weights of a ResNet-18 detector (--r18) stands for a detector of that size: its time is right, its
average precision means nothing. The bar that users know, measured on another machine: a nano OBB model of the YOLO
family at 1024 pixels on one core takes 410 ms in PyTorch, 260 ms in onnxruntime, 236 to 264 ms in OpenVINO (CPU time).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from fledge import api, exporting
from fledge.benchmark import as_json, benchmark
from fledge.data.synthetic import write_dataset
from fledge.recipe import make_recipe
from fledge.visualize.benchmark_page import markdown

R18: dict[str, Any] = {
    "backbone": "resnet18", "image_size": 1024, "overlap": 200, "batch_size": 1, "epochs": 1, "workers": 0,
    "warmup_steps": 1, "lr": 1e-6, "device": "cpu",
}  # fmt: skip


def main() -> None:
    """Parse, export, measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("runs", type=Path, nargs="*")
    parser.add_argument("--r18", action="store_true", help="add a ResNet-18 detector with random weights")
    parser.add_argument("--data", type=Path, help="labelled dataset of the runs; default: their own")
    parser.add_argument("--split", default=None)
    parser.add_argument("--calibration", type=Path, help="folder of images for int8")
    parser.add_argument("--size", type=int, nargs="*", default=[1024])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("runs/latency"))
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for run in options.runs:
        rows += _measured(run, options.data, options.split, options)
    if options.r18:
        rows += _measured(_random_r18(options.out / "r18"), options.out / "r18" / "data", "val", options)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "latency.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(markdown(rows))


def _measured(run: Path, data: Path | None, split: str | None, options: argparse.Namespace) -> list[dict[str, Any]]:
    models = [run]
    for to in ("onnx", "openvino"):
        made = options.out / f"{run.parent.name}-{run.name}-{to}{exporting.SUFFIX[to]}"
        if not made.exists():
            exporting.export(run, to, dynamic=True, out=made, data=data, split=split, images=2)
        models.append(made)
        if options.calibration:
            small = made.with_stem(f"{made.stem}-int8")
            if not small.exists():
                exporting.export(
                    run,
                    to,
                    "int8",
                    True,
                    small,
                    data,
                    split,
                    options.calibration,
                    max_drop=1.0,
                )
            models.append(small)
    return as_json(benchmark(models, (1,), options.size, data, split, options.repeats))


def _random_r18(folder: Path) -> Path:
    """A run of one step that leaves the weights as they were drawn."""
    write_dataset(folder / "data", "train", 1, 1024, 0)
    write_dataset(folder / "data", "val", 2, 1024, 1)
    return api.train(make_recipe({**R18, "data": str(folder / "data")}, "latency"), folder / "run", title="r18")


if __name__ == "__main__":
    main()
