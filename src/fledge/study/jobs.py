"""One run of a study: its identity, and the process that trains, evaluates and leaves a small record."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import fledge
from fledge.data.labels import DetectionDataset
from fledge.engine.checkpoint import newest_checkpoint
from fledge.errors import DataError, FledgeError
from fledge.evaluation.average_precision import Metrics
from fledge.files import write_json
from fledge.method_settings import IFKDRecipe
from fledge.recipe import DistillRecipe, Recipe, load_recipe, write_recipe
from fledge.runs import open_split

FORMAT = 1  # of records; raise it when a default of a recipe changes: old ones then count as other runs
# Settings that say where things are or how fast they go, not what is computed.
_ELSEWHERE = (
    "data", "eval_data", "train_list", "eval_list", "teacher", "inherit", "weights", "workers", "device",
    "ifkd_embedder_weights", "ifkd_embedding_cache",
)  # fmt: skip
_HARMLESS = ("deterministic", "save_every", "balance_every")


@dataclass(frozen=True)
class Job:
    """A training and its evaluation.

    Attributes:
        arm: its name in the study.
        phase: ``teacher``, ``pretext``, ``tune`` or ``report``; a pretext is not evaluated.
        recipe: resolved, with paths of this machine.
        teacher: the job whose run teaches or passes on its head; its run folder is put into the recipe.
        point: the settings of its place in the grid.
        start: the job whose weights it starts from.
    """

    arm: str
    phase: str
    recipe: Recipe
    teacher: Job | None = None
    point: dict[str, Any] = field(default_factory=dict)
    start: Job | None = None

    @property
    def needs(self) -> dict[str, Job]:
        """The jobs whose run folders it needs, by what for."""
        return {what: job for what in ("teacher", "start") if (job := getattr(self, what))}

    @property
    def title(self) -> str:
        """For progress and messages."""
        settings = ", ".join(f"{k} {v:g}" for k, v in self.point.items()) if self.phase == "tune" else ""
        return f"{self.phase} {self.arm}, seed {self.recipe.seed}" + (f", {settings}" if settings else "")


class Identities:
    """The hash of a job: everything that its result depends on but the machine.

    It covers the recipe's settings that are not their defaults (so that a record stays good when recipes learn a new
    setting) without paths, the labels and sizes of the images it trains on and is evaluated on,
    and its teacher's hash, so that a record can be found again on another machine.
    """

    def __init__(self) -> None:
        self._splits: dict[tuple[str, str, str], str] = {}

    def key(self, job: Job) -> str:
        """Hexadecimal, 16 digits."""
        recipe = job.recipe
        parts = {
            "format": FORMAT,
            "settings": _chosen(recipe),
            "train": self._split(recipe, recipe.data, recipe.train_split, recipe.train_list),
            "eval": "",
            "teacher": self.key(job.teacher) if job.teacher else _external(recipe),
            "inherits": bool(recipe.inherit),
            "weights": self.key(job.start) if job.start else _file(recipe.weights),
        }
        if job.phase != "pretext":
            judged = recipe.eval_data or recipe.data
            parts["eval"] = self._split(recipe, judged, recipe.eval_split, recipe.eval_list)
        if isinstance(recipe, IFKDRecipe):
            parts["embedder"] = _file(recipe.ifkd_embedder_weights)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def _split(self, recipe: Recipe, data: str, split: str, names: str) -> str:
        key = (data, split, names)
        if key not in self._splits:
            self._splits[key] = split_sha256(open_split(recipe, data, split, names=names))
        return self._splits[key]


def split_sha256(dataset: DetectionDataset) -> str:
    """SHA-256 over names, sizes and bytes of the images and over the labels of a split."""
    digest = hashlib.sha256(json.dumps([dataset.ids, dataset.classes]).encode())
    arrays = (dataset.sizes, dataset.stamps[:, 0], dataset.quads, dataset.labels, dataset.difficult, dataset.ignore)
    for array in (*arrays, dataset.offsets):
        digest.update(array.tobytes())
    return digest.hexdigest()


def run_job(spec: Path) -> dict[str, Any]:
    """Train and evaluate what ``job.json`` and ``recipe.toml`` in a folder describe; leaves ``result.json``.

    A run that fails leaves a record that says so.
    """
    from fledge import api

    torch.set_num_threads(1)  # studies run side by side; a second thread would mostly wait
    folder = spec.parent
    about = json.loads(spec.read_text(encoding="utf-8"))
    start = time.monotonic()
    try:
        recipe = load_recipe(folder / "recipe.toml")
        api.train(recipe, folder / "run", title=about["title"])
        trained = time.monotonic() - start
        result: dict[str, Any] = {"classes": [], "objects": [], "figures": {}}
        if about["phase"] != "pretext":
            result = figures_record(api.evaluate(folder / "run", device=recipe.device).metrics)
        result["resolved"] = _settings(load_recipe(folder / "run" / "recipe.toml"))
    except FledgeError as error:
        if error.exit_code >= 128:  # interrupted: no result, and not a failure
            raise
        trained, result = time.monotonic() - start, {"failed": str(error)}
    record = {
        **about,
        **result,
        "seconds": {"train": round(trained, 1), "all": round(time.monotonic() - start, 1)},
        "versions": {"fledge": fledge.__version__, "torch": torch.__version__, "python": platform.python_version()},
    }
    write_json(folder / "result.json", record)
    return record


def figures_record(metrics: Metrics) -> dict[str, Any]:
    """Classes, their objects, and their average precisions (0 ... 1, None where undefined) by measure."""
    return {
        "classes": list(metrics.classes),
        "objects": [int(n) for n in metrics.objects],
        "figures": {name: [_rounded(v) for v in row] for name, row in metrics.figures().items()},
    }


def prepare(job: Job, key: str, place: Path, keys: dict[str, str]) -> Path:
    """Write what the process of a job needs into ``place/key``; the file to give it.

    ``keys`` are those of the jobs it needs, by what for.
    """
    folder = place / key
    folder.mkdir(parents=True, exist_ok=True)
    recipe, changes = job.recipe, {}
    runs = {what: str(place / key / "run") for what, key in keys.items()}
    if there := runs.get("teacher"):
        changes = {"teacher": there} if isinstance(recipe, DistillRecipe) else {"inherit": there}
        if recipe.inherit:
            changes["inherit"] = there
    if "start" in runs:
        changes["weights"] = runs["start"]
    recipe = recipe.model_copy(update=changes)
    write_recipe(recipe, folder / "recipe.toml")
    about = {
        "format": FORMAT,
        "key": key,
        "title": job.title,
        "arm": job.arm,
        "phase": job.phase,
        "seed": recipe.seed,
        "point": job.point,
    }
    write_json(folder / "job.json", about)
    return folder / "job.json"


def read_record(path: Path) -> dict[str, Any]:
    """A record of a finished run.

    Raises:
        DataError: it is none.
    """
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != FORMAT or not ({"figures", "failed"} & set(record)):
            raise ValueError(f"its format is {record['format']}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"not a record of a run: {path}: {error}: remove it, and the run is done again") from error
    return record


def _settings(recipe: Recipe) -> dict[str, Any]:
    """What a recipe says of the computation, as plain values."""
    values: dict[str, Any] = json.loads(recipe.model_dump_json(exclude={*_ELSEWHERE, *_HARMLESS}))
    return values


def _chosen(recipe: Recipe) -> dict[str, Any]:
    """The method, and every setting of the computation that is not the default of its field."""
    kept = recipe.model_dump_json(exclude={*_ELSEWHERE, *_HARMLESS}, exclude_defaults=True)
    return {**json.loads(kept), "method": recipe.method}


def _rounded(value: float) -> float | None:
    return round(float(value), 6) if math.isfinite(value) else None


def _external(recipe: Recipe) -> str:
    """Which weights a teacher has that is no job of the study."""
    run = recipe.inherit or (recipe.teacher if isinstance(recipe, DistillRecipe) else "")
    newest = newest_checkpoint(Path(run) / "checkpoints") or Path(run)
    return _file(str(newest / "manifest.json")) if run else ""


def _file(path: str) -> str:
    if not path:
        return ""
    file = Path(path)
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else path


if __name__ == "__main__":
    try:
        run_job(Path(sys.argv[1]))
    except FledgeError as stop:
        print(f"fledge: {stop}", file=sys.stderr)
        raise SystemExit(stop.exit_code) from None
