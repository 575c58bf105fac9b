"""The table of distillation methods: from a recipe, a student and a teacher to the distiller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from fledge.distill.frs import FRS
from fledge.distill.kd_rnet import KDRNet
from fledge.distill.parts.levels import shared_levels
from fledge.distill.pkd import LEVELS, PKD
from fledge.method_settings import FRSRecipe, KDRNetRecipe, PKDRecipe
from fledge.models.detectors.rotated_retinanet import RotatedRetinaNet
from fledge.settings import fixed_weight


def _frs(recipe: FRSRecipe, student: RotatedRetinaNet, teacher: RotatedRetinaNet) -> nn.Module:
    levels = shared_levels(student, teacher)
    weights = fixed_weight(recipe.frs_feat_weight), fixed_weight(recipe.frs_cls_weight)
    return FRS(levels.names, levels.student, levels.teacher, *weights, recipe.frs_ramp_steps)


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


def _pkd(recipe: PKDRecipe, student: RotatedRetinaNet, teacher: RotatedRetinaNet) -> nn.Module:
    levels = shared_levels(student, teacher)
    return PKD(levels.student, levels.teacher, fixed_weight(recipe.pkd_weight), levels.only(LEVELS))


# A method's name in recipes -> its distiller for a student and a teacher.
DISTILLERS: dict[str, Callable[[Any, RotatedRetinaNet, Any], nn.Module]] = {
    "frs": _frs,
    "kd_rnet": _kd_rnet,
    "pkd": _pkd,
}
