"""Is this installation sound? The checks behind ``fledge doctor``."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

import torch


@dataclass(frozen=True)
class Check:
    """One check: its name, whether it passed, and what was seen or what to do."""

    name: str
    passed: bool
    detail: str


def diagnose() -> list[Check]:
    """Run every check; a check that raises has failed."""
    return [_run(name, function) for name, function in CHECKS.items()]


def _run(name: str, function: Callable[[], str]) -> Check:
    try:
        return Check(name, True, function())
    except Exception as error:  # a doctor must survive every illness it reports
        return Check(name, False, f"{type(error).__name__}: {error}")


def _versions() -> str:
    packages = ("fledge", "torch", "torchvision", "timm", "numpy", "opencv-python-headless")
    return f"Python {platform.python_version()}, " + ", ".join(f"{p} {metadata.version(p)}" for p in packages)


def _machine() -> str:
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, torch uses {torch.get_num_threads()}"


def _cuda() -> str:
    if not torch.cuda.is_available():
        return "none; everything runs on the CPU"
    return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))


def _torchvision() -> str:
    from torchvision.ops import nms

    nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
    return "its compiled operators work (if not: install torch and torchvision from the same index)"


def _geometry() -> str:
    from fledge.geometry.iou import rotated_iou

    square = torch.tensor([[0.0, 0.0, 40.0, 40.0, 0.0]])
    turned = torch.tensor([[0.0, 0.0, 40.0, 40.0, torch.pi / 4]])
    iou = float(rotated_iou(square, turned))
    if abs(iou - 0.5**0.5) > 1e-4:
        raise ArithmeticError(f"the IoU of a square and itself turned by 45° is {iou:.4f}, not 0.7071")
    return f"a square and itself turned by 45° have IoU {iou:.4f}"


def _detector() -> str:
    from fledge.build import build_detector
    from fledge.recipe import Recipe

    recipe = Recipe(backbone="resnet18_quarter", neck_channels=16, head_convs=1, image_size=64, overlap=0)
    detector = build_detector(recipe, ["thing"]).eval()
    outputs = detector(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    detector.decode(outputs, torch.tensor([[64, 64]]))
    return f"a small one runs ({sum(p.numel() for p in detector.parameters()) / 1e6:.2f} M parameters)"


CHECKS: dict[str, Callable[[], str]] = {
    "versions": _versions,
    "machine": _machine,
    "GPU": _cuda,
    "torchvision": _torchvision,
    "geometry": _geometry,
    "detector": _detector,
}
