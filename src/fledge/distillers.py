"""The table of distillation methods: from a recipe, a student and a teacher to the distiller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from fledge.distill.kd_rnet import KDRNet
from fledge.distill.parts.levels import shared_levels
from fledge.distill.pkd import LEVELS, PKD
from fledge.method_settings import KDRNetRecipe, PKDRecipe, distilled_classes
from fledge.models.detectors.dense import DenseDetector
from fledge.settings import fixed_weight


def _kd_rnet(recipe: KDRNetRecipe, student: DenseDetector, teacher: nn.Module) -> nn.Module:  # noqa: ARG001
    return KDRNet(
        student.assign,
        distilled_classes(recipe, len(student.classes)),
        cls_weight=fixed_weight(recipe.kd_cls_weight),
        box_weight=fixed_weight(recipe.kd_box_weight),
        temperature=recipe.kd_temperature,
        box_temperature=recipe.kd_box_temperature,
        probability=recipe.kd_probability,
        direction=recipe.kd_direction,
        squared_temperature=recipe.kd_squared_temperature,
        anchors=recipe.kd_anchors,
    )


def _pkd(recipe: PKDRecipe, student: DenseDetector, teacher: DenseDetector) -> nn.Module:
    levels = shared_levels(student, teacher)
    return PKD(levels.student, levels.teacher, fixed_weight(recipe.pkd_weight), levels.only(LEVELS))


# A method's name in recipes -> its distiller for a student and a teacher.
DISTILLERS: dict[str, Callable[[Any, DenseDetector, Any], nn.Module]] = {"kd_rnet": _kd_rnet, "pkd": _pkd}
