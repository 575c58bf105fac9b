"""The table of distillation methods: from a recipe, a student and a teacher to the distiller."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fledge.distill.arsd import ARSD
from fledge.distill.at import AT
from fledge.distill.crosskd import CrossKD
from fledge.distill.cwd import CWD
from fledge.distill.fgd import FGD
from fledge.distill.fitnet import FitNet
from fledge.distill.fkd import FKD
from fledge.distill.frs import FRS
from fledge.distill.hinton import Hinton
from fledge.distill.ifkd import IFKD, AttentionIFKD, Parts
from fledge.distill.insdist import InsDist
from fledge.distill.kd_rnet import KDRNet
from fledge.distill.ld import LD
from fledge.distill.mgd import MGD
from fledge.distill.parts.embedding import Disturbance
from fledge.distill.parts.frequency import FrequencyReconstruction
from fledge.distill.parts.levels import SharedLevels, shared_levels
from fledge.distill.pkd import LEVELS, PKD
from fledge.embedders import build_embedder
from fledge.errors import DataError, UsageError
from fledge.losses.giou import giou_loss
from fledge.losses.kld import kld_loss
from fledge.losses.rotated_iou import rotated_iou_loss
from fledge.method_settings import (
    ARSDRecipe,
    ATRecipe,
    CrossKDRecipe,
    CWDRecipe,
    DistillRecipe,
    FGDRecipe,
    FitNetRecipe,
    FKDRecipe,
    FRSRecipe,
    HintonRecipe,
    IFKDRecipe,
    InsDistRecipe,
    KDRNetRecipe,
    LDRecipe,
    MGDRecipe,
    PKDRecipe,
    distilled_classes,
)
from fledge.models.detectors.dense import DenseDetector
from fledge.models.embedders.orthogonal import orthogonal_map
from fledge.models.heads import RetinaHead
from fledge.settings import fixed_weight

BOX_TERMS = {"kld": kld_loss, "rotated_iou": rotated_iou_loss, "giou": giou_loss}


def _crosskd(recipe: CrossKDRecipe, student: DenseDetector, teacher: DenseDetector) -> nn.Module:
    own, other = _heads("CrossKD", student, teacher)
    if min(own.convs, other.convs) < recipe.crosskd_rest:
        raise UsageError(
            f"too short a head: crosskd_rest is {recipe.crosskd_rest}, convolutions of the student's head {own.convs}, "
            f"of the teacher's {other.convs}: lower crosskd_rest"
        )
    for head in (own, other):
        head.tap = head.convs - recipe.crosskd_rest
    return CrossKD(
        student.assign,
        student.anchor_boxes,
        student.boxes_at,
        BOX_TERMS[recipe.crosskd_box_loss],
        other.finish,
        own.channels,
        other.channels,
        shared_levels(student, teacher).names,
        cls_weight=fixed_weight(recipe.crosskd_cls_weight),
        box_weight=fixed_weight(recipe.crosskd_box_weight),
    )


def _arsd(recipe: ARSDRecipe, student: DenseDetector, teacher: DenseDetector) -> nn.Module:
    levels = shared_levels(student, teacher)
    return ARSD(
        levels.student,
        levels.teacher,
        levels.names,
        student.assign,
        student.anchor_boxes,
        student.boxes_at,
        _weights(recipe),
        recipe.arsd_area_weight,
    )


def _at(recipe: ATRecipe, student: DenseDetector, teacher: DenseDetector) -> nn.Module:
    return AT(shared_levels(student, teacher).names, fixed_weight(recipe.at_weight))


def _cwd(recipe: CWDRecipe, student: DenseDetector, teacher: DenseDetector) -> nn.Module:
    levels = shared_levels(student, teacher)
    weight = fixed_weight(recipe.cwd_weight)
    return CWD(levels.student, levels.teacher, levels.names, weight, recipe.cwd_temperature, recipe.cwd_standardised)


def _fgd(recipe: FGDRecipe, student: DenseDetector, teacher: DenseDetector) -> nn.Module:
    levels = shared_levels(student, teacher)
    return FGD(levels.student, levels.teacher, levels.names, _weights(recipe), recipe.fgd_temperature)


def _fitnet(recipe: FitNetRecipe, student: DenseDetector, teacher: DenseDetector) -> nn.Module:
    levels = shared_levels(student, teacher)
    return FitNet(levels.student, levels.teacher, levels.names, fixed_weight(recipe.fitnet_weight))


def _fkd(recipe: FKDRecipe, student: DenseDetector, teacher: DenseDetector) -> nn.Module:
    levels = shared_levels(student, teacher)
    return FKD(levels.student, levels.teacher, levels.names, _weights(recipe), recipe.fkd_temperature)


def _hinton(recipe: HintonRecipe, student: DenseDetector, teacher: nn.Module) -> nn.Module:  # noqa: ARG001
    weight, classes = fixed_weight(recipe.hinton_weight), distilled_classes(recipe, len(student.classes))
    return Hinton(student.assign, classes, weight, recipe.hinton_form, recipe.hinton_temperature)


def _insdist(recipe: InsDistRecipe, student: DenseDetector, teacher: DenseDetector) -> nn.Module:
    levels = shared_levels(student, teacher)
    threshold, balanced = recipe.insdist_threshold, recipe.insdist_balanced
    return InsDist(levels.student, levels.teacher, levels.names, _weights(recipe), threshold, balanced)


def _frs(recipe: FRSRecipe, student: DenseDetector, teacher: DenseDetector) -> nn.Module:
    levels = shared_levels(student, teacher)
    weights = fixed_weight(recipe.frs_feat_weight), fixed_weight(recipe.frs_cls_weight)
    return FRS(levels.names, levels.student, levels.teacher, *weights, recipe.frs_ramp_steps)


def _ifkd(recipe: IFKDRecipe, student: DenseDetector, teacher: DenseDetector) -> nn.Module:
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


def _ld(recipe: LDRecipe, student: DenseDetector, teacher: DenseDetector) -> nn.Module:
    own, other = _heads("LD", student, teacher)
    if not own.box_bins == other.box_bins > 0:
        raise UsageError(
            f"LD needs heads with distributions over the same values: box_bins: student {own.box_bins}, teacher "
            f"{other.box_bins}: set the same number, such as 17, in both recipes"
        )
    return LD(
        student.assign,
        student.anchor_boxes,
        student.learnt,
        student.assigner.positive_iou,
        own.box_bins,
        weight=fixed_weight(recipe.ld_weight),
        vlr_weight=fixed_weight(recipe.ld_vlr_weight),
        temperature=recipe.ld_temperature,
    )


def _mgd(recipe: MGDRecipe, student: DenseDetector, teacher: DenseDetector) -> nn.Module:
    levels = shared_levels(student, teacher)
    weight = fixed_weight(recipe.mgd_weight)
    return MGD(levels.student, levels.teacher, levels.names, weight, recipe.mgd_masked)


def _pkd(recipe: PKDRecipe, student: DenseDetector, teacher: DenseDetector) -> nn.Module:
    levels = shared_levels(student, teacher)
    return PKD(levels.student, levels.teacher, fixed_weight(recipe.pkd_weight), levels.only(LEVELS))


def _heads(method: str, student: nn.Module, teacher: nn.Module) -> tuple[RetinaHead, RetinaHead]:
    """The heads of both detectors, for methods that read inside them."""
    heads = student.head, teacher.head
    if not (isinstance(heads[0], RetinaHead) and isinstance(heads[1], RetinaHead)):
        raise UsageError(
            f"{method} reads inside RetinaNet's head: student {type(heads[0]).__name__}, teacher "
            f"{type(heads[1]).__name__}: choose such detectors, or a method that compares features"
        )
    return heads[0], heads[1]


def _weights(recipe: DistillRecipe) -> dict[str, float]:
    """The weight of each of a method's terms."""
    return {term: fixed_weight(getattr(recipe, field)) for term, field in recipe.weight_fields().items()}


# A method's name in recipes -> its distiller for a student and a teacher.
DISTILLERS: dict[str, Callable[[Any, DenseDetector, Any], nn.Module]] = {
    "arsd": _arsd,
    "at": _at,
    "crosskd": _crosskd,
    "cwd": _cwd,
    "fgd": _fgd,
    "fitnet": _fitnet,
    "fkd": _fkd,
    "frs": _frs,
    "hinton": _hinton,
    "ifkd": _ifkd,
    "insdist": _insdist,
    "kd_rnet": _kd_rnet,
    "ld": _ld,
    "mgd": _mgd,
    "pkd": _pkd,
}
