"""The table of distillation methods: from a recipe, a student and a teacher to the distiller."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fledge.distill.frs import FRS
from fledge.distill.ifkd import IFKD, AttentionIFKD, Parts
from fledge.distill.kd_rnet import KDRNet
from fledge.distill.parts.embedding import Disturbance
from fledge.distill.parts.frequency import FrequencyReconstruction
from fledge.distill.parts.levels import SharedLevels, shared_levels
from fledge.distill.pkd import LEVELS, PKD
from fledge.embedders import build_embedder
from fledge.errors import DataError, UsageError
from fledge.method_settings import FRSRecipe, IFKDRecipe, KDRNetRecipe, PKDRecipe
from fledge.models.detectors.rotated_retinanet import RotatedRetinaNet
from fledge.models.embedders.orthogonal import orthogonal_map
from fledge.settings import fixed_weight


def _frs(recipe: FRSRecipe, student: RotatedRetinaNet, teacher: RotatedRetinaNet) -> nn.Module:
    levels = shared_levels(student, teacher)
    weights = fixed_weight(recipe.frs_feat_weight), fixed_weight(recipe.frs_cls_weight)
    return FRS(levels.names, levels.student, levels.teacher, *weights, recipe.frs_ramp_steps)


def _ifkd(recipe: IFKDRecipe, student: RotatedRetinaNet, teacher: RotatedRetinaNet) -> nn.Module:
    levels = shared_levels(student, teacher)
    parts = _ifkd_parts(recipe, levels)
    if recipe.ifkd_on == "at":
        projection = _projection(levels.student, levels.teacher, recipe.seed)
        weight = fixed_weight(recipe.ifkd_at_weight)
        return AttentionIFKD(levels.names, parts, weight, recipe.ifkd_filter_penalty, projection)
    return IFKD(
        levels.names,
        levels.student,
        levels.teacher,
        parts,
        feat_weight=fixed_weight(recipe.ifkd_feat_weight),
        head_weight=fixed_weight(recipe.ifkd_head_weight),
        filter_penalty=recipe.ifkd_filter_penalty,
        ramp_steps=recipe.ifkd_ramp_steps,
    )


def _ifkd_parts(recipe: IFKDRecipe, levels: SharedLevels) -> Parts:
    reconstruction = FrequencyReconstruction(
        levels.names,
        levels.teacher,
        radius=(recipe.ifkd_radius_low, recipe.ifkd_radius_high),
        filter_size=recipe.ifkd_filter_size if recipe.ifkd_train_filter else 0,
        filter_lr=recipe.ifkd_filter_lr,
        student=recipe.ifkd_frequency_on == "both",
        seed=recipe.seed,
    )
    return Parts(
        disturbance_named(
            recipe.ifkd_disturbance,
            recipe.ifkd_embedder_weights,
            levels.teacher,
            recipe.seed,
            recipe.ifkd_embedding_cache,
        ),
        reconstruction if recipe.ifkd_frequency else None,
        recipe.ifkd_mask,
        recipe.ifkd_curvature,
    )


def disturbance_named(name: str, weights: str, channels: int, seed: int, cache: str = "") -> Disturbance | None:
    """What disturbs a teacher's maps, or None for the name ``none``.

    Args:
        name: as ``ifkd_disturbance`` in a recipe.
        weights: file of its weights.
        channels: of the maps.
        seed: of the map between widths that differ.
        cache: folder where embeddings are kept; empty for none.

    Raises:
        UsageError: no such embedder, or its weights are missing; the message says where they are found, and what goes
            without.
        DataError: the weights are not those of the embedder.
    """
    if name == "none":
        return None
    try:
        embedder = build_embedder(name, weights, Path(cache) if cache else None)
    except (UsageError, DataError) as error:
        raise type(error)(f"{error}; or name another disturbance, such as edges, which have no weights") from error
    return Disturbance(embedder, channels, _projection(embedder.channels, channels, seed))


def _projection(channels_in: int, channels_out: int, seed: int) -> Tensor | None:
    """A fixed map between widths that differ."""
    return None if channels_in == channels_out else orthogonal_map(channels_in, channels_out, seed)


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
    "ifkd": _ifkd,
    "kd_rnet": _kd_rnet,
    "pkd": _pkd,
}
