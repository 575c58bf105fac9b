"""The settings of the distillation methods, a class for each, and the table of methods by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from fledge.settings import Recipe, Weight


class DistillRecipe(Recipe):
    """Settings of a run that has a teacher; each method's recipe is a subclass with a ``method`` of its own."""

    teacher: str = ""  # folder of a finished run
    teacher_control: Literal["", "random", "shuffled"] = ""  # fresh weights, or another image than the student's
    balance_every: int = Field(200, ge=0)  # steps between measurements of the terms' gradients; 0: none

    weights_of: ClassVar[Mapping[str, str]] = {}
    """From the method's loss terms to the settings that weigh them."""

    def weight_fields(self) -> dict[str, str]:
        """``weights_of``, for the terms that these settings leave."""
        return dict(self.weights_of)


class ARSDRecipe(DistillRecipe):
    """Settings of an ARSD run: those of the student, and the three terms."""

    method: Literal["arsd"] = "arsd"  # type: ignore[assignment]
    weights_of: ClassVar[Mapping[str, str]] = {
        "kd_arsd_feat": "arsd_feat_weight",
        "kd_arsd_cls": "arsd_cls_weight",
        "kd_arsd_box": "arsd_box_weight",
    }
    arsd_feat_weight: Weight = 0.01
    arsd_cls_weight: Weight = 0.01
    arsd_box_weight: Weight = 0.2
    arsd_area_weight: bool = True  # small objects weigh more; the authors' released code weighs all alike


class ATRecipe(DistillRecipe):
    """Settings of an AT run: those of the student, and the weight of the attention term."""

    method: Literal["at"] = "at"  # type: ignore[assignment]
    weights_of: ClassVar[Mapping[str, str]] = {"kd_at": "at_weight"}
    at_weight: Weight = 10.0


class CrossKDRecipe(DistillRecipe):
    """Settings of a CrossKD run: those of the student, and the two terms."""

    method: Literal["crosskd"] = "crosskd"  # type: ignore[assignment]
    weights_of: ClassVar[Mapping[str, str]] = {
        "kd_cross_cls": "crosskd_cls_weight",
        "kd_cross_box": "crosskd_box_weight",
    }
    crosskd_cls_weight: Weight = 1.0
    crosskd_box_weight: Weight = 1.0
    crosskd_rest: int = Field(1, ge=0)  # convolutions of the teacher's head that the student's features go through
    crosskd_box_loss: Literal["kld", "rotated_iou", "giou"] = "kld"


class CWDRecipe(DistillRecipe):
    """Settings of a CWD run: those of the student, and the channel term."""

    method: Literal["cwd"] = "cwd"  # type: ignore[assignment]
    weights_of: ClassVar[Mapping[str, str]] = {"kd_cwd": "cwd_weight"}
    cwd_weight: Weight = 1.0
    cwd_temperature: float = Field(1.0, gt=0)
    cwd_standardised: bool = False  # bring each channel to mean 0 and deviation 1 first, as RTMDet does


class FGDRecipe(DistillRecipe):
    """Settings of an FGD run: those of the student, and the four terms.

    The weights are those of one-stage detectors; two-stage ones have 5e-5, 2.5e-5, 5e-5 and 5e-7.
    """

    method: Literal["fgd"] = "fgd"  # type: ignore[assignment]
    weights_of: ClassVar[Mapping[str, str]] = {
        "kd_fgd_fg": "fgd_fg_weight",
        "kd_fgd_bg": "fgd_bg_weight",
        "kd_fgd_attention": "fgd_attention_weight",
        "kd_fgd_global": "fgd_global_weight",
    }
    fgd_fg_weight: Weight = 1e-3
    fgd_bg_weight: Weight = 5e-4
    fgd_attention_weight: Weight = 1e-3
    fgd_global_weight: Weight = 5e-6
    fgd_temperature: float = Field(0.5, gt=0)


class FitNetRecipe(DistillRecipe):
    """Settings of a FitNet run: those of the student, and the weight of the hint."""

    method: Literal["fitnet"] = "fitnet"  # type: ignore[assignment]
    weights_of: ClassVar[Mapping[str, str]] = {"kd_fitnet": "fitnet_weight"}
    fitnet_weight: Weight = 1.0


class FKDRecipe(DistillRecipe):
    """Settings of an FKD run: those of the student, and the four terms."""

    method: Literal["fkd"] = "fkd"  # type: ignore[assignment]
    weights_of: ClassVar[Mapping[str, str]] = {
        "kd_fkd_attention": "fkd_attention_weight",
        "kd_fkd_channel": "fkd_channel_weight",
        "kd_fkd_spatial": "fkd_spatial_weight",
        "kd_fkd_relation": "fkd_relation_weight",
    }
    fkd_attention_weight: Weight = 7e-5
    fkd_channel_weight: Weight = 4e-3
    fkd_spatial_weight: Weight = 4e-3
    fkd_relation_weight: Weight = 7e-5
    fkd_temperature: float = Field(0.1, gt=0)


class FRSRecipe(DistillRecipe):
    """Settings of an FRS run: those of the student, and the two distillation terms."""

    method: Literal["frs"] = "frs"  # type: ignore[assignment]
    weights_of: ClassVar[Mapping[str, str]] = {"kd_feat": "frs_feat_weight", "kd_cls": "frs_cls_weight"}
    frs_feat_weight: Weight = 0.005  # one-stage; the paper has 0.002 for Faster R-CNN
    frs_cls_weight: Weight = 0.02  # one-stage; the paper has 0.1 for Faster R-CNN
    frs_ramp_steps: int = Field(500, ge=0)  # over which both weights rise from 0


class HintonRecipe(DistillRecipe):
    """Settings of a Hinton KD run: those of the student, and the score term."""

    method: Literal["hinton"] = "hinton"  # type: ignore[assignment]
    weights_of: ClassVar[Mapping[str, str]] = {"kd_hinton": "hinton_weight"}
    hinton_weight: Weight = 1.0
    hinton_form: Literal["softmax", "bernoulli", "quality_focal"] = "quality_focal"
    hinton_temperature: float = Field(2.0, gt=0)  # of the first two forms


class IFKDRecipe(DistillRecipe):
    """Settings of an IFKD run: those of the student, the distillation terms, and the three parts, which may be off."""

    method: Literal["ifkd"] = "ifkd"  # type: ignore[assignment]
    ifkd_on: Literal["frs", "at"] = "frs"  # what the parts are added to; "at": attention transfer, as in table 4
    ifkd_feat_weight: Weight = 0.06  # alpha
    ifkd_head_weight: Weight = 0.5  # beta
    ifkd_at_weight: Weight = 10.0  # of the attention term, in place of these two
    ifkd_ramp_steps: int = Field(500, ge=0)  # over which alpha and beta rise from 0
    # external disturbance
    ifkd_disturbance: str = Field("mobilesam", pattern=r"^(mobilesam|edges|none|timm:.+)$")
    ifkd_embedder_weights: str = ""  # file of its weights; edges have none
    ifkd_embedding_cache: str = ""  # folder where embeddings are kept, for images that come again pixel by pixel
    # frequency reconstruction
    ifkd_frequency: bool = True
    ifkd_frequency_on: Literal["teacher", "both"] = "teacher"  # whose maps are reconstructed
    ifkd_radius_low: float = Field(0.1, ge=0, le=1)  # of the low band: bounds of what is drawn at each step
    ifkd_radius_high: float = Field(0.5, ge=0, le=1)
    ifkd_train_filter: bool = True  # or hold it at 1
    ifkd_filter_size: int = Field(16, ge=2, multiple_of=2)
    ifkd_filter_lr: float = Field(0.1, gt=0)  # factor on `lr` for the filter
    ifkd_filter_penalty: float = Field(0.1, ge=0)  # weight of its squared distance from 1
    # hyperbolic similarity mask
    ifkd_mask: Literal["hyperbolic", "frs", "ones"] = "hyperbolic"
    ifkd_curvature: float = Field(1.0, gt=0)

    def weight_fields(self) -> dict[str, str]:
        """From the method's loss terms to the settings that weigh them."""
        terms = {"kd_at": "ifkd_at_weight"}
        if self.ifkd_on == "frs":
            terms = {"kd_feat": "ifkd_feat_weight", "kd_head": "ifkd_head_weight"}
        if self.ifkd_frequency and self.ifkd_train_filter:
            terms["kd_filter"] = "ifkd_filter_penalty"
        return terms

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.ifkd_radius_low > self.ifkd_radius_high:
            raise ValueError("ifkd_radius_low is above ifkd_radius_high: swap them")
        changing = self.photometric or self.rotate_degrees or (self.scale_low, self.scale_high) != (1.0, 1.0)
        if self.ifkd_embedding_cache and changing:
            raise ValueError(
                "ifkd_embedding_cache finds nothing again with photometric, rotate_degrees or scales: leave it out"
            )
        return self


class InsDistRecipe(DistillRecipe):
    """Settings of an InsDist run: those of the student, the mask, and the three terms, whose weights are ours."""

    method: Literal["insdist"] = "insdist"  # type: ignore[assignment]
    weights_of: ClassVar[Mapping[str, str]] = {
        "kd_insdist_fg": "insdist_fg_weight",
        "kd_insdist_bg": "insdist_bg_weight",
        "kd_insdist_relation": "insdist_relation_weight",
    }
    insdist_fg_weight: Weight = 1e-3
    insdist_bg_weight: Weight = 5e-4
    insdist_relation_weight: Weight = 1.0
    insdist_threshold: float = Field(0.5, ge=0, le=1)  # of the similarity to an object
    insdist_balanced: bool = False  # pairs of one class weigh as much in all as pairs of two


class KDRNetRecipe(DistillRecipe):
    """Settings of a KD-RNet run: those of the student, and the two distillation terms."""

    method: Literal["kd_rnet"] = "kd_rnet"  # type: ignore[assignment]
    weights_of: ClassVar[Mapping[str, str]] = {"kd_cls": "kd_cls_weight", "kd_box": "kd_box_weight"}
    kd_cls_weight: Weight = 1.0
    kd_box_weight: Weight = 1.0
    kd_temperature: float = Field(8.0, gt=0)
    kd_box_temperature: float = Field(10.0, gt=0)
    kd_probability: Literal["softmax", "sigmoid"] = "softmax"
    kd_direction: Literal["student_teacher", "teacher_student"] = "student_teacher"
    kd_squared_temperature: bool = False  # multiply the class term by the square of its temperature
    kd_anchors: Literal["valid", "positive"] = "valid"  # class distillation on all counted anchors, or positives only


class LDRecipe(DistillRecipe):
    """Settings of an LD run: those of the student, which needs ``box_bins`` like its teacher, and the two terms."""

    method: Literal["ld"] = "ld"  # type: ignore[assignment]
    weights_of: ClassVar[Mapping[str, str]] = {"kd_ld": "ld_weight", "kd_ld_vlr": "ld_vlr_weight"}
    ld_weight: Weight = 10.0
    ld_vlr_weight: Weight = 2.5
    ld_temperature: float = Field(10.0, gt=0)


class MGDRecipe(DistillRecipe):
    """Settings of an MGD run: those of the student, and the generation term.

    The defaults are those of one-stage detectors; two-stage ones have a weight of 5e-7 and blank 0.45.
    """

    method: Literal["mgd"] = "mgd"  # type: ignore[assignment]
    weights_of: ClassVar[Mapping[str, str]] = {"kd_mgd": "mgd_weight"}
    mgd_weight: Weight = 2e-5
    mgd_masked: float = Field(0.65, ge=0, le=1)  # share of the cells that are blanked


class PKDRecipe(DistillRecipe):
    """Settings of a PKD run: those of the student, and the weight of the feature term."""

    method: Literal["pkd"] = "pkd"  # type: ignore[assignment]
    weights_of: ClassVar[Mapping[str, str]] = {"kd_pkd": "pkd_weight"}
    pkd_weight: Weight = 10.0


def distilled_classes(recipe: Recipe, count: int) -> int:
    """Classes of the logits that are distilled: those of the data, or of a first stage one, "an object"."""
    return 1 if recipe.detector == "faster_rcnn" else count


def for_classes(recipe: Recipe, count: int) -> Recipe:
    """The recipe, with the methods that compare a softmax in their sigmoid form if the logits have one class.

    The softmax form would be zero.
    """
    count = distilled_classes(recipe, count)
    if isinstance(recipe, KDRNetRecipe) and count == 1:
        return recipe.model_copy(update={"kd_probability": "sigmoid"})
    if isinstance(recipe, HintonRecipe) and count == 1 and recipe.hinton_form == "softmax":
        return recipe.model_copy(update={"hinton_form": "bernoulli"})
    return recipe


METHODS: dict[str, type[Recipe]] = {
    "none": Recipe,
    "arsd": ARSDRecipe,
    "at": ATRecipe,
    "crosskd": CrossKDRecipe,
    "cwd": CWDRecipe,
    "fgd": FGDRecipe,
    "fitnet": FitNetRecipe,
    "fkd": FKDRecipe,
    "frs": FRSRecipe,
    "hinton": HintonRecipe,
    "ifkd": IFKDRecipe,
    "insdist": InsDistRecipe,
    "kd_rnet": KDRNetRecipe,
    "ld": LDRecipe,
    "mgd": MGDRecipe,
    "pkd": PKDRecipe,
}
