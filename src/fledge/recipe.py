"""Recipes: one flat TOML file holds every setting of one experiment.

An unknown key is an error that names the nearest known one; nothing is looked up elsewhere, so a recipe can be read
alone. The resolved recipe (every default written out) lies beside each checkpoint.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fledge.errors import UsageError

AUTO = "auto:"
# Of a distillation term: a number, or "auto:0.3": such that its gradient is 0.3 times the task's when training begins.
Weight = Annotated[float, Field(ge=0)] | Annotated[str, Field(pattern=r"^auto:[0-9]*\.?[0-9]+$")]
_MOST_BYTES = 1_000_000
# What begins a setting or a table of a TOML text, and what could hold the like: strings and comments.
_TOKEN = re.compile(
    r"""^[ \t]*["']?(?P<key>[\w-]+)["']?[ \t]*[.=]"""
    r"""|^[ \t]*\[+[ \t]*["']?(?P<table>[\w-]+)[^\]\n]*\]+[ \t]*(?:\#|$)"""
    r'''|"""(?:\\.|[^\\])*?"""|\'\'\'.*?\'\'\'|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|\#[^\n]*''',
    re.MULTILINE | re.DOTALL,
)


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
    bands: tuple[int, ...] = ()  # bands of the images to read, counted from 1; none: grey or RGB as it is
    pixel_range: tuple[float, ...] = ()  # low and high sample mapped on 0…255; none: 8 bit as is, 16 bit measured
    image_size: int = Field(1024, ge=32)
    view: Literal["fit", "crop"] = "crop"  # shrink the whole image to image_size, or cut windows at native resolution
    overlap: int = Field(200, ge=0)  # of neighbouring windows at inference
    hflip: bool = True
    vflip: bool = True
    right_angles: bool = False
    rotate_degrees: float = Field(0.0, ge=0, le=180)
    scale_low: float = Field(1.0, gt=0)
    scale_high: float = Field(1.0, gt=0)
    photometric: float = Field(0.0, ge=0, le=1)
    # detector
    detector: Literal["rotated_retinanet"] = "rotated_retinanet"
    backbone: str = "resnet50"
    neck_channels: int = Field(256, ge=8)
    head_convs: int = Field(4, ge=1)
    head_norm: bool = False  # group normalisation in the head
    anchor_scale: float = Field(4.0, gt=0)
    anchor_octaves: int = Field(3, ge=1)
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    positive_iou: float = Field(0.5, gt=0, le=1)
    negative_iou: float = Field(0.4, gt=0, le=1)
    box_loss: Literal["kld", "gwd", "kfiou", "rotated_iou", "smooth_l1"] = "kld"
    box_weight: float = Field(5.5, ge=0)
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

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.negative_iou > self.positive_iou:
            raise ValueError("negative_iou is above positive_iou: lower it")
        if self.scale_low > self.scale_high:
            raise ValueError("scale_low is above scale_high: swap them")
        if self.overlap >= self.image_size:
            raise ValueError("overlap is not smaller than image_size: lower it")
        if self.batch_size % self.accumulate:
            raise ValueError("batch_size is no multiple of accumulate: change one")
        if any(band < 1 for band in self.bands) or len(set(self.bands)) < len(self.bands):
            raise ValueError("bands count from 1, each once: correct them")
        if self.keep_best and not self.eval_every:
            raise ValueError("keep_best needs evaluations: set eval_every, such as 1")
        if len(self.pixel_range) not in (0, 2) or (self.pixel_range and self.pixel_range[0] >= self.pixel_range[1]):
            raise ValueError("pixel_range is not [low, high]: give two numbers, the lower one first")
        return self


class DistillRecipe(Recipe):
    """Settings of a run that has a teacher; each method's recipe is a subclass with a ``method`` of its own."""

    teacher: str = ""  # folder of a finished run
    teacher_control: Literal["", "random", "shuffled"] = ""  # fresh weights, or another image than the student's
    balance_every: int = Field(200, ge=0)  # steps between measurements of the terms' gradients; 0: none

    def weight_fields(self) -> dict[str, str]:
        """From the method's loss terms to the settings that weigh them."""
        return {}


class KDRNetRecipe(DistillRecipe):
    """Settings of a KD-RNet run: those of the student, and the two distillation terms."""

    method: Literal["kd_rnet"] = "kd_rnet"  # type: ignore[assignment]
    kd_cls_weight: Weight = 1.0
    kd_box_weight: Weight = 1.0
    kd_temperature: float = Field(8.0, gt=0)
    kd_box_temperature: float = Field(10.0, gt=0)
    kd_probability: Literal["softmax", "sigmoid"] = "softmax"
    kd_direction: Literal["student_teacher", "teacher_student"] = "student_teacher"
    kd_squared_temperature: bool = False  # multiply the class term by the square of its temperature
    kd_anchors: Literal["valid", "positive"] = "valid"  # class distillation on all counted anchors, or positives only

    def weight_fields(self) -> dict[str, str]:
        """From the method's loss terms to the settings that weigh them."""
        return {"kd_cls": "kd_cls_weight", "kd_box": "kd_box_weight"}


class PKDRecipe(DistillRecipe):
    """Settings of a PKD run: those of the student, and the weight of the feature term."""

    method: Literal["pkd"] = "pkd"  # type: ignore[assignment]
    pkd_weight: Weight = 10.0

    def weight_fields(self) -> dict[str, str]:
        """From the method's loss terms to the settings that weigh them."""
        return {"kd_pkd": "pkd_weight"}


def for_classes(recipe: Recipe, count: int) -> Recipe:
    """The recipe, with KD-RNet in its sigmoid form if there is one class: the softmax form would be zero."""
    if isinstance(recipe, KDRNetRecipe) and count == 1:
        return recipe.model_copy(update={"kd_probability": "sigmoid"})
    return recipe


METHODS: dict[str, type[Recipe]] = {"none": Recipe, "kd_rnet": KDRNetRecipe, "pkd": PKDRecipe}


def shipped_recipes() -> dict[str, Path]:
    """The recipes inside the package, by name."""
    folder = Path(str(resources.files("fledge") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_recipe(path: str | Path, **changes: Any) -> Recipe:
    """Read a recipe from a file, or a shipped one by name, with some settings replaced.

    Raises:
        UsageError: the file is missing or not TOML, a key is unknown or a value cannot be.
    """
    file = Path(path)
    if not file.is_file():
        shipped = shipped_recipes()
        if str(path) not in shipped:
            hint = f"shipped recipes: {', '.join(shipped)}"
            raise UsageError(f"no such recipe: {path}: give a TOML file, or one of the {hint}")
        file = shipped[str(path)]
    try:
        with file.open("rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise UsageError(f"recipe too large: {file}: more than {_MOST_BYTES} bytes: a recipe has some 60 lines")
        text = data.decode()
        settings = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"cannot read recipe: {file}: {error.strerror}: check its permissions") from error
    except RecursionError:
        raise UsageError(f"not TOML: {file}: lists nested without end: a recipe is flat") from None
    except ValueError as error:  # among them TOMLDecodeError and UnicodeDecodeError
        raise UsageError(f"not TOML: {file}: {error}") from None
    lines = {key: line for key, line in _lines(text).items() if key not in changes}
    return make_recipe({**settings, **changes}, str(file), lines)


def make_recipe(settings: dict[str, Any], where: str, lines: Mapping[str, int] = MappingProxyType({})) -> Recipe:
    """Validate settings; in errors ``where`` names their source, and ``lines`` those of settings in it."""

    def place(key: object) -> str:
        return f"{where}:{lines[key]}" if isinstance(key, str) and key in lines else where

    method = settings.get("method", "none")
    if not isinstance(method, str) or method not in METHODS:
        raise UsageError(f"unknown method {method!r}: {place('method')}: use one of {', '.join(METHODS)}")
    try:
        # Strict, and as JSON, where a list is a tuple: `epochs = true` or `lr = "0.1"` is a mistake.
        return METHODS[method].model_validate_json(json.dumps(settings, default=str), strict=True)
    except ValidationError as error:
        problems: dict[str, list[str]] = {}
        for one in sorted(error.errors(), key=lambda one: lines.get(str(next(iter(one["loc"]), "")), 0)):
            problems.setdefault(place(next(iter(one["loc"]), "")), []).append(_explain(METHODS[method], dict(one)))
        told = "; ".join(f"{there}: {'; '.join(texts)}" for there, texts in problems.items())
        raise UsageError(f"bad recipe: {told}") from None


def _lines(text: str) -> dict[str, int]:
    """The line of each setting of a TOML text, counted from 1; of a table that of its head."""
    found: dict[str, int] = {}
    line, at = 1, 0
    for match in _TOKEN.finditer(text):
        line, at = line + text.count("\n", at, match.start()), match.start()
        if key := match["key"] or match["table"]:
            found.setdefault(key, line)
    return found


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write every setting as flat TOML."""
    lines = [
        f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in recipe.model_dump(mode="json").items()
    ]
    text = "\n".join(lines).replace("\x7f", "\\u007f")  # the one character JSON leaves raw and TOML refuses
    path.write_text(text + "\n", encoding="utf-8")


def _explain(model: type[Recipe], error: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in error["loc"]) or "recipe"
    if error["type"] != "extra_forbidden":
        return f"{key}: {error['msg']}"
    near = difflib.get_close_matches(key, model.model_fields, n=1, cutoff=0.5)
    return f"unknown key {key!r}" + (f", did you mean {near[0]!r}?" if near else ": remove it")
