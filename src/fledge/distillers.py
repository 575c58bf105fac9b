"""The table of distillation methods: from a recipe, a student and a teacher to the distiller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from fledge.distill.arsd import ARSD
from fledge.distill.at import AT
from fledge.distill.cwd import CWD
from fledge.distill.fgd import FGD
from fledge.distill.fitnet import FitNet
from fledge.distill.fkd import FKD
from fledge.distill.hinton import Hinton
from fledge.distill.insdist import InsDist
from fledge.distill.kd_rnet import KDRNet
from fledge.distill.mgd import MGD
from fledge.distill.parts.levels import shared_levels
from fledge.distill.pkd import LEVELS, PKD
from fledge.geometry.coder import decode
from fledge.method_settings import (
    ARSDRecipe,
    ATRecipe,
    CWDRecipe,
    DistillRecipe,
    FGDRecipe,
    FitNetRecipe,
    FKDRecipe,
    HintonRecipe,
    InsDistRecipe,
    KDRNetRecipe,
    MGDRecipe,
    PKDRecipe,
)
from fledge.models.detectors.rotated_retinanet import RotatedRetinaNet
from fledge.settings import fixed_weight


def _arsd(recipe: ARSDRecipe, student: RotatedRetinaNet, teacher: RotatedRetinaNet) -> nn.Module:
    levels = shared_levels(student, teacher)
    return ARSD(
        levels.student,
        levels.teacher,
        levels.names,
        student.assign,
        student.anchor_boxes,
        decode,
        _weights(recipe),
        recipe.arsd_area_weight,
    )


def _at(recipe: ATRecipe, student: RotatedRetinaNet, teacher: RotatedRetinaNet) -> nn.Module:
    return AT(shared_levels(student, teacher).names, fixed_weight(recipe.at_weight))


def _cwd(recipe: CWDRecipe, student: RotatedRetinaNet, teacher: RotatedRetinaNet) -> nn.Module:
    levels = shared_levels(student, teacher)
    weight = fixed_weight(recipe.cwd_weight)
    return CWD(levels.student, levels.teacher, levels.names, weight, recipe.cwd_temperature, recipe.cwd_standardised)


def _fgd(recipe: FGDRecipe, student: RotatedRetinaNet, teacher: RotatedRetinaNet) -> nn.Module:
    levels = shared_levels(student, teacher)
    return FGD(levels.student, levels.teacher, levels.names, _weights(recipe), recipe.fgd_temperature)


def _fitnet(recipe: FitNetRecipe, student: RotatedRetinaNet, teacher: RotatedRetinaNet) -> nn.Module:
    levels = shared_levels(student, teacher)
    return FitNet(levels.student, levels.teacher, levels.names, fixed_weight(recipe.fitnet_weight))


def _fkd(recipe: FKDRecipe, student: RotatedRetinaNet, teacher: RotatedRetinaNet) -> nn.Module:
    levels = shared_levels(student, teacher)
    return FKD(levels.student, levels.teacher, levels.names, _weights(recipe), recipe.fkd_temperature)


def _hinton(recipe: HintonRecipe, student: RotatedRetinaNet, teacher: nn.Module) -> nn.Module:  # noqa: ARG001
    weight, classes = fixed_weight(recipe.hinton_weight), len(student.classes)
    return Hinton(student.assign, classes, weight, recipe.hinton_form, recipe.hinton_temperature)


def _insdist(recipe: InsDistRecipe, student: RotatedRetinaNet, teacher: RotatedRetinaNet) -> nn.Module:
    levels = shared_levels(student, teacher)
    threshold, balanced = recipe.insdist_threshold, recipe.insdist_balanced
    return InsDist(levels.student, levels.teacher, levels.names, _weights(recipe), threshold, balanced)


def _kd_rnet(recipe: KDRNetRecipe, student: RotatedRetinaNet, teacher: nn.Module) -> nn.Module:  # noqa: ARG001
    return KDRNet(
        student.assign,
        len(student.classes),
        cls_weight=fixed_weight(recipe.kd_cls_weight),
        box_weight=fixed_weight(recipe.kd_box_weight),
        temperature=recipe.kd_temperature,
        box_temperature=recipe.kd_box_temperature,
        probability=recipe.kd_probability,
        direction=recipe.kd_direction,
        squared_temperature=recipe.kd_squared_temperature,
        anchors=recipe.kd_anchors,
    )


def _mgd(recipe: MGDRecipe, student: RotatedRetinaNet, teacher: RotatedRetinaNet) -> nn.Module:
    levels = shared_levels(student, teacher)
    weight = fixed_weight(recipe.mgd_weight)
    return MGD(levels.student, levels.teacher, levels.names, weight, recipe.mgd_masked)


def _pkd(recipe: PKDRecipe, student: RotatedRetinaNet, teacher: RotatedRetinaNet) -> nn.Module:
    levels = shared_levels(student, teacher)
    return PKD(levels.student, levels.teacher, fixed_weight(recipe.pkd_weight), levels.only(LEVELS))


def _weights(recipe: DistillRecipe) -> dict[str, float]:
    """The weight of each of a method's terms."""
    return {term: fixed_weight(getattr(recipe, field)) for term, field in recipe.weight_fields().items()}


# A method's name in recipes -> its distiller for a student and a teacher.
DISTILLERS: dict[str, Callable[[Any, RotatedRetinaNet, Any], nn.Module]] = {
    "arsd": _arsd,
    "at": _at,
    "cwd": _cwd,
    "fgd": _fgd,
    "fitnet": _fitnet,
    "fkd": _fkd,
    "hinton": _hinton,
    "insdist": _insdist,
    "kd_rnet": _kd_rnet,
    "mgd": _mgd,
    "pkd": _pkd,
}
