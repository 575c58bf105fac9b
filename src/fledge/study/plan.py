"""From declared arms to jobs: what each arm trains, with which teacher, at which point of its grid."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fledge.errors import UsageError
from fledge.recipe import DistillRecipe, Recipe, make_recipe
from fledge.runs import open_split
from fledge.study.jobs import Job
from fledge.study.spec import Arm, Declared, Settings, located, points
from fledge.training import steps_per_epoch

_STARTED: Settings = {"weights": "pretext", "reset_head": True}  # the run folder is known when the job is prepared
_TEACHER_CONTROLS = {"random_teacher": "random", "shuffled_pairing": "shuffled"}


class Plan:
    """The jobs of a study, phase by phase; later ones need what earlier ones chose.

    Args:
        declared: the study.
        device: replaces the recipes' one, unless empty.
    """

    def __init__(self, declared: Declared, device: str = "") -> None:
        self.declared, self.study = declared, declared.study
        self._fixed: Settings = {"device": device} if device else {}
        self._images: dict[tuple[str, str, str], int] = {}
        for name in self.study.arms:  # so that a mistake shows before anything runs
            self._recipe(name, {}, self.study.seeds[0], tuning=False)

    def teachers(self) -> list[Job]:
        """The trainings among which the teacher is chosen, evaluated on the tuning split; none without one to train."""
        teacher, recipe = self.study.teacher, self.declared.teacher
        if teacher is None or recipe is None:
            return []
        seeded = {"seed": teacher.seed, **self._fixed, **self.study.tuning.evaluate}
        return [
            Job("teacher", "teacher", self._made(recipe, {**seeded, **point}, "teacher"), point=point)
            for point in points(teacher.grid)
        ]

    def tuning(self, teacher: Job | None) -> dict[str, list[Job]]:
        """By arm, the runs at every point of its grid with every tuning seed; arms with nothing to try are left out.

        A reference is run even so where there is a teacher: the entry condition compares the two.
        """
        references = {reference for _, reference in self.study.comparisons} if teacher else set()
        jobs = {}
        for name, arm in self.study.arms.items():
            grid = points(self.study.tuning.grid, arm.grid)
            if not arm.of and (grid != [{}] or name in references):
                jobs[name] = [
                    self._job(name, "tune", point, seed, teacher, {})
                    for point in grid
                    for seed in self.study.tuning.seeds
                ]
        return jobs

    def controls_tuning(self, teacher: Job | None, chosen: Mapping[str, Settings]) -> dict[str, list[Job]]:
        """The same for the controls that have a grid of their own, beside the tuned settings of what they control."""
        jobs = {}
        for name, arm in self.study.arms.items():
            if arm.of and arm.grid:
                base = chosen.get(arm.of, {})
                jobs[name] = [
                    self._job(name, "tune", {**base, **point}, seed, teacher, chosen)
                    for point in points(arm.grid)
                    for seed in self.study.tuning.seeds
                ]
        return jobs

    def reports(self, teacher: Job | None, chosen: Mapping[str, Settings]) -> dict[str, list[Job]]:
        """By arm, the reported runs at the chosen points."""
        return {
            name: [
                self._job(name, "report", self.point(name, chosen), seed, teacher, chosen)
                for seed in arm.seeds or self.study.seeds
            ]
            for name, arm in self.study.arms.items()
        }

    def point(self, name: str, chosen: Mapping[str, Settings]) -> Settings:
        """The tuned settings of an arm: its own, or those of the arm it controls."""
        return chosen.get(name, chosen.get(self.study.arms[name].of, {}))

    def _job(
        self,
        name: str,
        phase: str,
        point: Settings,
        seed: int,
        teacher: Job | None,
        chosen: Mapping[str, Settings],
    ) -> Job:
        recipe = self._recipe(name, point, seed, tuning=phase == "tune")
        arm = self.study.arms[name]
        needed: Job | None = None
        if arm.control == "self_distillation":
            needed = self._own_teacher(arm, chosen)
        elif isinstance(recipe, DistillRecipe) or arm.control == "inherit":
            needed = teacher
            if needed is None and not (self.study.teacher and self.study.teacher.run):
                raise UsageError(f"no teacher: arms.{name}: the study needs a [teacher]")
        return Job(name, phase, recipe, needed, point, self._start(arm))

    def _recipe(self, name: str, point: Settings, seed: int, tuning: bool) -> Recipe:
        """What an arm trains."""
        arm, base = self.study.arms[name], self.declared.base
        settings = {**self._controlled(arm), **arm.set, **point, **self._fixed, "seed": seed}
        if tuning:
            settings |= self.study.tuning.evaluate
        recipe = self._made(base, settings, f"arms.{name}")
        changes: Settings = {}
        if self._start(arm):
            changes |= _STARTED
        if arm.control == "scratch_longer":
            changes |= self._with_pretext_steps(recipe)
        if arm.control in _TEACHER_CONTROLS:
            changes["teacher_control"] = _TEACHER_CONTROLS[str(arm.control)]
        if arm.control == "longer":
            changes["epochs"] = recipe.epochs * arm.factor
            changes["milestones"] = tuple(m * arm.factor for m in recipe.milestones)
        if arm.control == "inherit":
            changes["inherit"] = str(self._external_run() or "teacher")
        distils = isinstance(recipe, DistillRecipe)
        if arm.control in ("random_teacher", "shuffled_pairing", "self_distillation") and not distils:
            raise UsageError(f"arms.{name}: {arm.control} controls a distillation: {arm.of} has no teacher")
        if arm.control in ("longer", "inherit") and distils:
            raise UsageError(f"arms.{name}: {arm.control} is without distillation: {arm.of} has a teacher")
        if distils and self._external_run() and arm.control != "self_distillation":
            changes["teacher"] = str(self._external_run())
        return recipe.model_copy(update=changes)

    def _start(self, arm: Arm) -> Job | None:
        """The pre-training that an arm or what it controls starts from; None without one."""
        pretrained = arm.pretrained or (bool(arm.of) and self.study.arms[arm.of].pretrained)
        if not pretrained or arm.control in ("scratch", "scratch_longer"):
            return None
        control = {"label_control": "shuffled"} if arm.control == "shuffled_boxes" else {}
        return Job("pretext", "pretext", self._pretext(control))

    def _pretext(self, settings: Settings) -> Recipe:
        pretext, recipe = self.study.pretext, self.declared.pretext
        if pretext is None or recipe is None:
            raise UsageError("no pre-training: the study needs a [pretext]")
        return self._made(recipe, {**self._fixed, "seed": pretext.seed, **settings}, "pretext")

    def _with_pretext_steps(self, recipe: Recipe) -> Settings:
        """The schedule of a recipe stretched by the steps of the pre-training, rounded up to whole epochs."""
        pretext = self._pretext({})
        added = pretext.epochs * self._per_epoch(pretext) / self._per_epoch(recipe)
        epochs = recipe.epochs + math.ceil(added)
        return {
            "epochs": epochs,
            "milestones": tuple(round(m * epochs / recipe.epochs) for m in recipe.milestones),
        }

    def _per_epoch(self, recipe: Recipe) -> int:
        place = (recipe.data, recipe.train_split, recipe.train_list)
        if place not in self._images:
            self._images[place] = len(open_split(recipe, recipe.data, recipe.train_split, names=recipe.train_list))
        return steps_per_epoch(recipe, self._images[place])

    def _controlled(self, arm: Arm) -> Settings:
        return self.study.arms[arm.of].set if arm.of else {}

    def _own_teacher(self, arm: Arm, chosen: Mapping[str, Settings]) -> Job:
        """The student alone, once, as the teacher of itself."""
        seed = self.study.tuning.seeds[0]
        point = {k: v for k, v in chosen.get(arm.of, {}).items() if k in Recipe.model_fields}
        base = self.declared.base
        recipe = self._made(base, {**point, **self._fixed, "seed": seed}, "self_distillation")
        if isinstance(recipe, DistillRecipe):
            raise UsageError(f"base: {self.study.base}: it distils: name the student's own recipe as base")
        start = self._start(self.study.arms[arm.of])
        return Job(
            "itself", "teacher", recipe.model_copy(update=_STARTED) if start else recipe, point=point, start=start
        )

    def _external_run(self) -> str:
        teacher = self.study.teacher
        return str(self.declared.folder / teacher.run) if teacher and teacher.run else ""

    def _made(self, base: Recipe, settings: Mapping[str, Any], where: str) -> Recipe:
        plain = json.loads(base.model_dump_json())
        return located(make_recipe({**plain, **settings}, where), self.declared.folder)


def all_jobs(*groups: Mapping[str, Sequence[Job]]) -> list[Job]:
    """The jobs of some arms as one list."""
    return [job for group in groups for jobs in group.values() for job in jobs]
