"""A study as it is declared before anything runs: arms, tuning, seeds, measures, comparisons."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fledge.errors import UsageError
from fledge.recipe import Recipe, load_recipe

Control = Literal[
    "random_teacher", "shuffled_pairing", "self_distillation", "longer", "inherit",
    "scratch", "scratch_longer", "shuffled_boxes",
]  # fmt: skip
PRETRAINED = ("scratch", "scratch_longer", "shuffled_boxes")  # controls of arms that are pre-trained
Measure = Literal["AP50", "AP75", "AP50:95"]
Settings = dict[str, Any]
Grid = dict[str, tuple[float, ...]]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Tuning(_Part):
    """Where and over what the arms are tuned.

    Attributes:
        seeds: of the tuning runs; none of them is reported.
        grid: values to try, by setting; the same for every arm.
        evaluate: the recipe's evaluation settings while tuning (``eval_split``, ``eval_list``, ``eval_data``).
    """

    seeds: tuple[int, ...] = (0,)
    grid: Grid = {}
    evaluate: dict[str, str] = {}

    @model_validator(mode="after")
    def _only_evaluation(self) -> Self:
        if wrong := sorted(set(self.evaluate) - {"eval_split", "eval_list", "eval_data"}):
            raise ValueError(f"evaluate: {', '.join(wrong)}: only eval_split, eval_list and eval_data can be set there")
        return self


class Teacher(_Part):
    """The teacher that all arms share.

    Attributes:
        recipe: file or name of its recipe.
        set: settings that replace the recipe's.
        grid: values to try; the best one on the tuning split becomes the teacher.
        seed: of its run.
        run: a finished run instead.
    """

    recipe: str = ""
    set: Settings = {}
    grid: Grid = {}
    seed: int = 0
    run: str = ""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if bool(self.recipe) == bool(self.run):
            raise ValueError("give either recipe or run")
        return self


class Pretext(_Part):
    """The pre-training from which arms with ``pretrained`` start.

    Attributes:
        recipe: file or name of its recipe: a detector trained on boxes of any kind, of images without labels.
        set: settings that replace the recipe's.
        seed: of its run; one run is shared by all seeds of the arms.
    """

    recipe: str
    set: Settings = {}
    seed: int = 0


class Arm(_Part):
    """One way to train.

    Attributes:
        pretrained: whether it starts from the weights that the study's pretext gives.
        set: settings that differ from the study's base recipe, or from those of the arm it is a control of.
        grid: values to try beside those of the study.
        control: what is changed so that the arm can show something else than the method.
        of: the arm that it controls, whose tuned settings it takes.
        factor: of ``longer``: how many times the steps.
        seeds: reported instead of the study's.
    """

    pretrained: bool = False
    set: Settings = {}
    grid: Grid = {}
    control: Control | None = None
    of: str = ""
    factor: int = Field(2, ge=2)
    seeds: tuple[int, ...] = ()


class Study(_Part):
    """A study; see docs/studies.md.

    Attributes:
        title: of the report.
        base: file or name of the recipe that all arms share.
        set: settings that replace the base's in every arm.
        across: values of settings at every combination of which the whole study is made, comparisons included, such as
            lists of images (fractions of the data) and ``epochs``.
        primary: what is compared.
        secondary: what is shown beside it.
        seeds: of the reported runs, at least two, none of them a tuning seed.
        comparisons: the declared pairs (arm, reference).
        entry_margin: points of the primary measure by which the teacher must lead the tuned reference on the tuning
            split; without that nothing is claimed.
        min_objects: classes with fewer objects in the reported split are listed, but not part of the means.
        tuning, teacher, pretext, arms: see there.
    """

    title: str
    base: str
    set: Settings = {}
    across: dict[str, tuple[int | float | str, ...]] = {}
    primary: Measure = "AP50"
    secondary: tuple[Measure, ...] = ("AP75",)
    seeds: tuple[int, ...]
    comparisons: tuple[tuple[str, str], ...]
    entry_margin: float = 3.0
    min_objects: int = Field(0, ge=0)
    tuning: Tuning = Tuning()
    teacher: Teacher | None = None
    pretext: Pretext | None = None
    arms: dict[str, Arm]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds) or len(self.seeds) < 2:
            raise ValueError("seeds: give two or more, each once")
        fixed = [self.tuning.grid, *(part for arm in self.arms.values() for part in (arm.set, arm.grid))]
        if twice := sorted({key for part in fixed for key in part} & set(self.across)):
            raise ValueError(f"across: {', '.join(twice)}: set or tried in an arm as well: leave it to one of them")
        if wrong := [key for key, values in self.across.items() if not values or len(set(values)) < len(values)]:
            raise ValueError(f"across: {', '.join(wrong)}: give one value or more, each once")
        if judged := sorted({"eval_split", "eval_list", "eval_data", "seed"} & set(self.across)):
            raise ValueError(
                f"across: {', '.join(judged)}: all cells are judged on the same images, with the same seeds"
            )
        for name, arm in {"": Arm(), **self.arms}.items():
            both = sorted({*self.seeds, *arm.seeds} & set(self.tuning.seeds))
            if both:
                raise ValueError(
                    f"seeds {both} are for tuning and for reporting{f' in {name}' if name else ''}: part them"
                )
            if arm.control and arm.of not in self.arms:
                raise ValueError(f"arms.{name}: a control needs `of`, the name of the arm that it controls")
            if arm.of and self.arms[arm.of].of:
                raise ValueError(f"arms.{name}: {arm.of} is a control itself: name the arm that it controls")
            if arm.control in PRETRAINED and not self.arms[arm.of].pretrained:
                raise ValueError(f"arms.{name}: {arm.control} controls a pre-training: {arm.of} is not pretrained")
            if arm.pretrained and (arm.control or not self.pretext):
                why = "a control starts as its control says" if arm.control else "the study needs a [pretext]"
                raise ValueError(f"arms.{name}: pretrained: {why}")
        for pair in self.comparisons:
            if unknown := sorted(set(pair) - set(self.arms)):
                raise ValueError(f"comparisons: no arm named {', '.join(unknown)}")
        return self


class Declared(BaseModel):
    """A study with what its files say.

    Attributes:
        study: as declared.
        folder: that its relative paths start from.
        sha256: over the study's file, its recipes and its lists of images.
        base: the recipe of all arms.
        teacher: the teacher's recipe, if it is trained here.
        pretext: the recipe of the pre-training, if there is one.
    """

    model_config = ConfigDict(frozen=True)

    study: Study
    folder: Path
    sha256: str
    base: Recipe
    teacher: Recipe | None
    pretext: Recipe | None = None


def load_study(path: str | Path, data: str | Path | None = None, teacher_weights: str | Path | None = None) -> Declared:
    """Read a study and the recipes it names.

    Paths in it (recipes, data, lists, runs) are relative to its own folder.

    Args:
        path: its TOML file.
        data: dataset folder instead of the one in its recipes; not part of the hash. A pretext with data of its own
            keeps them.
        teacher_weights: starting weights of the teacher; not part of the hash, but of the teacher's identity.

    Raises:
        UsageError: a file is missing or wrong; all problems are named.
    """
    file = Path(path)
    try:
        text = file.read_bytes()
        study = Study.model_validate_json(json.dumps(tomllib.loads(text.decode())), strict=True)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"no such study: {file}: {error}: give a TOML file") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"not TOML: {file}: {error}") from None
    except ValidationError as error:
        problems = "; ".join(_explain(dict(e)) for e in error.errors())
        raise UsageError(f"bad study: {file}: {problems}") from None
    folder = file.resolve().parent
    base = _recipe(study.base, study.set, folder)
    teacher = None
    if study.teacher and study.teacher.recipe:
        teacher = _recipe(study.teacher.recipe, {**study.set, **study.teacher.set}, folder)
    pretext = _recipe(study.pretext.recipe, study.pretext.set, folder) if study.pretext else None
    lists = sorted(
        {
            *(str(p) for p in study.across.get("train_list", ())),
            *_lists(base),
            *_lists(teacher),
            *_lists(pretext),
            *(p for k, p in study.tuning.evaluate.items() if k == "eval_list"),
        }
    )
    parts = [
        text,
        *(r.model_dump_json(exclude_defaults=True).encode() for r in (base, teacher, pretext) if r),
        *(_content(folder, p) for p in lists),
    ]
    digest = hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
    here = {"data": str(Path(data).resolve())} if data else {}
    start = {"weights": str(Path(teacher_weights).resolve())} if teacher_weights else {}
    return Declared(
        study=study,
        folder=folder,
        sha256=digest,
        base=base.model_copy(update=here),
        teacher=teacher.model_copy(update={**here, **start}) if teacher else None,
        pretext=pretext.model_copy(update=here) if pretext and pretext.data == base.data else pretext,
    )


def points(*grids: Grid) -> list[Settings]:
    """Every combination of the values of some grids."""
    merged = {key: values for grid in grids for key, values in grid.items()}
    return [dict(zip(merged, chosen, strict=True)) for chosen in itertools.product(*merged.values())]


def located(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with its relative paths starting from ``folder``."""
    maybe = ("weights", "ifkd_embedder_weights")  # may be a name, or lie where the command is given
    fields = ("data", "eval_data", "train_list", "eval_list", "inherit", "teacher", *maybe)
    paths = {k: v for k in fields if (v := getattr(recipe, k, ""))}
    moved = {k: str(folder / v) for k, v in paths.items() if k not in maybe or (folder / v).exists()}
    return recipe.model_copy(update=moved)


def _recipe(name: str, settings: Settings, folder: Path) -> Recipe:
    own = folder / name
    return load_recipe(own if own.is_file() else name, **settings)


def _lists(recipe: Recipe | None) -> list[str]:
    return [p for p in (recipe.train_list, recipe.eval_list) if p] if recipe else []


def _content(folder: Path, path: str) -> bytes:
    try:
        return (folder / path).read_bytes()
    except OSError as error:
        raise UsageError(f"no list of images: {folder / path}: {error.strerror}: correct the study") from None


def _explain(error: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in error["loc"]) or "study"
    if error["type"] != "extra_forbidden":
        return f"{key}: {error['msg'].removeprefix('Value error, ')}"
    known = {key for part in (Study, Arm, Tuning, Teacher, Pretext) for key in part.model_fields}
    near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1, cutoff=0.5)
    return f"unknown key {key!r}" + (f", did you mean {near[0]!r}?" if near else ": remove it")
