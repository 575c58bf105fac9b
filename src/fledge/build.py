"""Names to objects: the only file that knows every room's name table."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from fledge.assign.max_iou import MaxIoUAssigner
from fledge.data.raster import PixelRule
from fledge.distillers import DISTILLERS
from fledge.engine.train_step import TrainStep
from fledge.errors import UsageError
from fledge.geometry.anchors import AnchorGrid
from fledge.models.backbones import Backbone
from fledge.models.detectors.rotated_retinanet import (
    BoxLoss,
    RotatedRetinaNet,
    gwd_box_loss,
    kfiou_box_loss,
    kld_box_loss,
    rotated_iou_box_loss,
    smooth_l1_box_loss,
)
from fledge.models.heads import RetinaHead
from fledge.models.necks import FPN
from fledge.recipe import DistillRecipe, Recipe

# Name -> (timm model, arguments). The narrow ResNets are ours, for a CPU; three 3×3 convolutions replace the 7×7 stem,
# which with its 64 channels would cost more than all the rest.
BACKBONES: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet50": ("resnet50", {}),
    "resnet34": ("resnet34", {}),
    "resnet18": ("resnet18", {}),
    "resnet18_half": ("resnet18", {"channels": (32, 64, 128, 256), "stem_type": "deep", "stem_width": 16}),
    "resnet18_quarter": ("resnet18", {"channels": (16, 32, 64, 128), "stem_type": "deep", "stem_width": 8}),
    "mobilenetv2": ("mobilenetv2_100", {}),
    "mobilenetv2_half": ("mobilenetv2_050", {}),
}
# Mean and standard deviation of the channels of images that have not three: bytes spread over their range.
BAND_MEAN, BAND_STD = 127.5, 64.0
_DISTILLER = 2_000_003  # from a recipe's seed to that of its distiller's own weights
BOX_LOSSES: dict[str, BoxLoss] = {
    "kld": kld_box_loss,
    "gwd": gwd_box_loss,
    "kfiou": kfiou_box_loss,
    "rotated_iou": rotated_iou_box_loss,
    "smooth_l1": smooth_l1_box_loss,
}


def pixel_rule(recipe: Recipe) -> PixelRule:
    """How a recipe wants images read."""
    low_high = recipe.pixel_range
    return PixelRule(recipe.bands, (low_high[0], low_high[1]) if low_high else None)


def build_detector(recipe: Recipe, classes: Sequence[str]) -> RotatedRetinaNet:
    """The detector a recipe describes, with fresh weights drawn from the recipe's seed."""
    if recipe.backbone not in BACKBONES:
        raise UsageError(f"unknown backbone {recipe.backbone!r}: recipe: use one of {', '.join(BACKBONES)}")
    name, options = BACKBONES[recipe.backbone]
    channels = pixel_rule(recipe).channels
    statistics = {} if channels == 3 else {"mean": [BAND_MEAN] * channels, "std": [BAND_STD] * channels}
    anchors = AnchorGrid(scale=recipe.anchor_scale, octaves=recipe.anchor_octaves, ratios=recipe.anchor_ratios)
    with _drawn_from(recipe.seed):
        backbone = Backbone(name, recipe.frozen_stages, recipe.freeze_norm, channels, **options)
        neck = FPN(backbone.channels, recipe.neck_channels)
        sizes = (len(classes), anchors.per_cell, recipe.neck_channels, recipe.head_convs)
        head = RetinaHead(*sizes, norm=recipe.head_norm, box_bins=recipe.box_bins)
    detector = RotatedRetinaNet(
        backbone,
        neck,
        head,
        anchors,
        MaxIoUAssigner(recipe.positive_iou, recipe.negative_iou),
        BOX_LOSSES[recipe.box_loss],
        classes,
        box_weight=recipe.box_weight,
        score_threshold=recipe.score_threshold,
        nms_iou=recipe.nms_iou,
        max_detections=recipe.max_detections,
        **statistics,
    )
    # Channels last nearly halves the time of a CPU's convolutions (1.5 times faster steps in the quickstart).
    return detector.to(memory_format=torch.channels_last)


def build_train_step(recipe: Recipe, student: RotatedRetinaNet, teacher: nn.Module | None) -> TrainStep:
    """Student, and for a distillation recipe the teacher and the method's distiller."""
    if recipe.method not in DISTILLERS:
        return TrainStep(student, precision=recipe.precision)
    if teacher is None:
        raise UsageError("no teacher: recipe: set `teacher` to the folder of a finished run")
    with _drawn_from(recipe.seed + _DISTILLER):
        distiller = DISTILLERS[recipe.method](recipe, student, teacher)
    shuffled = isinstance(recipe, DistillRecipe) and recipe.teacher_control == "shuffled"
    return TrainStep(student, teacher, distiller, recipe.precision, shuffled)


@contextmanager
def _drawn_from(seed: int) -> Iterator[None]:
    """Fresh weights come from a seed, and leave the random numbers of the process as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def pick_device(name: str) -> torch.device:
    """``auto`` takes a CUDA device if there is one, else the CPU; anything else is torch's own name.

    Under torchrun, CUDA without a number is the device of this process.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"unknown device {name!r}: use auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"no CUDA device here: device={name}: use cpu, or check the driver with `fledge doctor`")
    if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device
