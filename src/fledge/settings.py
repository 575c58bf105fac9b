"""The settings of a run without distillation: every field of a recipe, with its default and its bounds."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

AUTO = "auto:"
# Of a distillation term: a number, or "auto:0.3": such that its gradient is 0.3 times the task's when training begins.
Weight = Annotated[float, Field(ge=0)] | Annotated[str, Field(pattern=r"^auto:[0-9]*\.?[0-9]+$")]


DETECTOR_DEFAULTS: dict[str, dict[str, Any]] = {
    "rotated_retinanet": {},
    "retinanet": {"box_loss": "l1", "box_weight": 1.0, "nms_iou": 0.5},
    "faster_rcnn": {
        "head_convs": 1, "anchor_scale": 8.0, "anchor_octaves": 1, "positive_iou": 0.7, "negative_iou": 0.3,
        "box_loss": "l1", "box_weight": 1.0, "nms_iou": 0.5,
    },
}  # fmt: skip
"""What a detector takes for a setting that is not given, where it is not the default of the field."""

_BOX_LOSSES = {True: ("l1", "smooth_l1"), False: ("kld", "gwd", "kfiou", "rotated_iou", "smooth_l1")}


def fixed_weight(weight: float | str) -> float:
    """The number of a weight; 1 for one that is yet to be fixed."""
    return 1.0 if isinstance(weight, str) else weight


class Recipe(BaseModel):
    """Settings of one training run without distillation. Lengths are pixels of the network's input."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: Literal["none"] = "none"
    # data
    data: str = ""
    eval_data: str = ""  # where eval_split lies, if not in `data` (whole images beside a folder of tiles)
    form: str = ""  # of `data` and `eval_data`, where the folders fit several forms and the first is not the one wanted
    train_split: str = "train"
    eval_split: str = "val"
    train_list: str = ""  # text file with the names of the images to train on, one a line; none: all of train_split
    eval_list: str = ""  # likewise of eval_split
    skip_bad_labels: bool = False  # leave bad label lines out, and say how many, instead of stopping
    allow_unlabelled: bool = False  # an image without a label file has no objects, instead of being an error
    label_control: Literal["", "shuffled"] = ""  # of a study: train on the objects of other images
    bands: tuple[int, ...] = ()  # bands of the images to read, counted from 1; none: grey or RGB as it is
    pixel_range: tuple[float, ...] = ()  # low and high sample mapped on 0…255; none: 8 bit as is, 16 bit measured
    image_size: int = Field(1024, ge=32)
    view: Literal["fit", "crop"] = "crop"  # shrink the whole image to image_size, or cut windows at native resolution
    short_side: int = Field(0, ge=0)  # with view "fit": of the shrunk image in pixels, at most; 0: any
    overlap: int = Field(200, ge=0)  # of neighbouring windows at inference
    hflip: bool = True
    vflip: bool = True
    right_angles: bool = False
    rotate_degrees: float = Field(0.0, ge=0, le=180)
    scale_low: float = Field(1.0, gt=0)
    scale_high: float = Field(1.0, gt=0)
    photometric: float = Field(0.0, ge=0, le=1)
    invert: bool = False
    # detector
    detector: Literal["rotated_retinanet", "retinanet", "faster_rcnn"] = "rotated_retinanet"
    backbone: str = "resnet50"
    neck_channels: int = Field(256, ge=8)
    head_convs: int = Field(4, ge=1)
    head_norm: bool = False  # group normalisation in the head
    box_bins: int = Field(0, ge=0)  # values a box delta is the mean of, by a distribution over them; 0: no distribution
    anchor_scale: float = Field(4.0, gt=0)
    anchor_octaves: int = Field(3, ge=1)
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    positive_iou: float = Field(0.5, gt=0, le=1)
    negative_iou: float = Field(0.4, gt=0, le=1)
    box_loss: Literal["kld", "gwd", "kfiou", "rotated_iou", "smooth_l1", "l1"] = "kld"
    box_weight: float = Field(5.5, ge=0)
    region_width: int = Field(1024, ge=8)  # faster_rcnn: of the second stage's hidden layers
    proposals: int = Field(1000, ge=1)  # faster_rcnn: regions of an image that the second stage looks at
    anchor_samples: int = Field(256, ge=1)  # faster_rcnn: anchors of an image that the first stage learns from
    region_samples: int = Field(512, ge=1)  # faster_rcnn: regions of an image that the second stage learns from
    weights: str = ""  # of the backbone: a timm name, or a file (safetensors, or .pth with tensors only)
    reset_head: bool = False  # starting from a run with other classes: a fresh class layer
    inherit: str = ""  # run folder whose layers of neck and head are the start where they have the same shape
    frozen_stages: int = Field(0, ge=0, le=5)
    freeze_norm: bool = False
    # training
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(0.0025, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    backbone_lr: float = Field(1.0, gt=0)  # factor on `lr` for the backbone
    batch_size: int = Field(2, ge=1)  # images of one optimiser step, over all processes
    accumulate: int = Field(1, ge=1)  # parts in which a step's images are computed
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    ema_decay: float = Field(0.0, ge=0, lt=1)  # of the averaged weights that are evaluated; 0: no average
    epochs: int = Field(12, ge=1)
    schedule: Literal["step", "cosine"] = "step"
    milestones: tuple[int, ...] = (8, 11)
    warmup_steps: int = Field(500, ge=0)
    clip_norm: float = Field(35.0, gt=0)
    save_every: int = Field(1, ge=1)  # epochs
    eval_every: int = Field(0, ge=0)  # epochs between evaluations on eval_split; 0: none
    keep_best: Literal["", "AP50", "AP75", "AP50:95"] = ""  # the figure by which the best checkpoint is kept as well
    skip_bad_steps: int = Field(0, ge=0)  # steps with a number that is not finite to leave out before stopping
    deterministic: bool = False  # on CUDA: the same bits each time, slower
    seed: int = Field(0, ge=0)
    workers: int = Field(2, ge=0)
    device: str = "auto"
    # inference
    score_threshold: float = Field(0.05, ge=0, le=1)
    nms_iou: float = Field(0.1, ge=0, le=1)
    max_detections: int = Field(2000, ge=1)

    @property
    def horizontal(self) -> bool:
        """Whether the detector's boxes are horizontal."""
        return self.detector != "rotated_retinanet"

    @model_validator(mode="after")
    def _of_detector(self) -> Self:
        """The defaults of the detector where nothing is given; before anyone else sees the frozen settings."""
        own = DETECTOR_DEFAULTS[self.detector]
        self.__dict__.update({name: value for name, value in own.items() if name not in self.model_fields_set})
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        fitting = _BOX_LOSSES[self.horizontal]
        if self.box_loss not in fitting:
            raise ValueError(f"box_loss {self.box_loss} is not of a {self.detector}: use {' or '.join(fitting)}")
        if self.negative_iou > self.positive_iou:
            raise ValueError("negative_iou is above positive_iou: lower it")
        if self.scale_low > self.scale_high:
            raise ValueError("scale_low is above scale_high: swap them")
        if self.overlap >= self.image_size:
            raise ValueError("overlap is not smaller than image_size: lower it")
        if self.short_side and (self.view != "fit" or self.short_side > self.image_size):
            raise ValueError('short_side needs view = "fit", and an image_size, for the long side, of at least as much')
        if self.batch_size % self.accumulate:
            raise ValueError("batch_size is no multiple of accumulate: change one")
        if 0 < self.box_bins < 3:
            raise ValueError("box_bins is 1 or 2: set it to 0, or to at least 3, such as 9 or 17")
        if any(band < 1 for band in self.bands) or len(set(self.bands)) < len(self.bands):
            raise ValueError("bands count from 1, each once: correct them")
        if self.keep_best and not self.eval_every:
            raise ValueError("keep_best needs evaluations: set eval_every, such as 1")
        if len(self.pixel_range) not in (0, 2) or (self.pixel_range and self.pixel_range[0] >= self.pixel_range[1]):
            raise ValueError("pixel_range is not [low, high]: give two numbers, the lower one first")
        return self
