"""Every shipped recipe builds what it describes and takes a step on a miniature of DOTA, in DOTA's own format.

Those of IFKD are for other datasets: see test_ifkd.py.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from torch import nn

from fledge import api
from fledge.build import build_detector, build_train_step
from fledge.cli import app
from fledge.data.catalogue.dota import DOTA_V10_CLASSES as DOTA_V10
from fledge.data.datasets import open_dataset
from fledge.engine.optim import make_optimizer
from fledge.models.detectors.dense import DenseDetector
from fledge.recipe import KDRNetRecipe, Recipe, load_recipe, shipped_recipes

NAMES = sorted(shipped_recipes())
DOTA = [name for name in NAMES if name.startswith("kd_rnet_dota_")]
ON_DOTA = [name for name in NAMES if not name.startswith("ifkd_")]
SMALL: dict[str, Any] = {"image_size": 64, "overlap": 32, "weights": "", "workers": 0, "device": "cpu", "batch_size": 1}


def teacher_of(recipe: KDRNetRecipe) -> Recipe:
    """The recipe its header trains the teacher with: the run folder has the recipe's name."""
    return load_recipe(Path(recipe.teacher).name if recipe.teacher else "quickstart_teacher")


@pytest.fixture(scope="module")
def teachers() -> dict[str, DenseDetector]:
    return {}


def distance(student: nn.Module, before: dict[str, torch.Tensor]) -> dict[str, float]:
    return {k: float((p.detach() - before[k]).abs().max()) for k, p in student.named_parameters()}


@pytest.mark.parametrize("name", ON_DOTA)
def test_it_takes_a_step(name: str, tiles: Path, teachers: dict[str, DenseDetector]) -> None:
    recipe = load_recipe(name, data=str(tiles), **SMALL)
    dataset = open_dataset(tiles, recipe.train_split)
    assert dataset.classes == DOTA_V10
    assert 0 < dataset.difficult.sum() < len(dataset.labels)
    student, teacher = build_detector(recipe, dataset.classes), None
    if isinstance(recipe, KDRNetRecipe):
        source = teacher_of(recipe)
        teacher = teachers.setdefault(source.backbone, build_detector(source, dataset.classes))
    step = build_train_step(recipe, student, teacher).train()
    optimizer = make_optimizer(step, recipe.optimizer, recipe.lr, recipe.weight_decay, recipe.momentum)
    before = {k: p.detach().clone() for k, p in student.named_parameters()}

    terms = step(next(iter(api.training_batches(recipe, dataset, 0, 1))))
    assert set(terms) == {"cls", "box"} | ({"kd_cls", "kd_box"} if teacher else set())
    assert all(bool(value.isfinite()) for value in terms.values())
    assert float(terms["box"].detach()) > 0
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    assert bool(nn.utils.clip_grad_norm_(step.parameters(), recipe.clip_norm).isfinite())
    optimizer.step()

    moved = distance(student, before)
    frozen = {k for k, p in student.named_parameters() if not p.requires_grad}
    assert all(moved[k] == 0 for k in frozen)
    # Not all others: timm starts the last norm of a residual branch at zero, which hides what is before it.
    assert sum(moved[k] > 0 for k in set(moved) - frozen) > 0.6 * len(set(moved) - frozen)
    assert all(bool(p.isfinite().all()) for p in student.parameters())


@pytest.mark.parametrize(
    ("name", "millions"),
    [("kd_rnet_dota_teacher_r50", 36.64), ("kd_rnet_dota_alone_r34", 30.19), ("kd_rnet_dota_alone_r18", 20.08)],
)
def test_the_networks_are_those_of_the_paper(name: str, millions: float) -> None:
    """Eight bytes (weight and momentum) of each parameter make the paper's 292.6, 240.8 and 160.2 "M"."""
    with torch.device("meta"):
        detector = build_detector(load_recipe(name), DOTA_V10)
    assert sum(p.numel() for p in detector.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)
    frozen = [k for k, p in detector.named_parameters() if not p.requires_grad]
    assert {k.split(".")[2] for k in frozen} == {"conv1", "bn1", "layer1"}


def test_rows_of_the_tables_differ_in_what_they_compare() -> None:
    alone, whole, part = (load_recipe(f"kd_rnet_dota_{k}_r34").model_dump() for k in ("alone", "distilled", "kl_only"))
    assert {k for k in alone if alone[k] != whole[k]} == {"method"}
    assert {k for k in whole if whole[k] != part[k]} == {"kd_box_weight"}
    assert part["kd_box_weight"] == 0
    for kind in ("alone", "distilled"):
        large, small = (load_recipe(f"kd_rnet_dota_{kind}_{b}").model_dump() for b in ("r34", "r18"))
        assert {k for k in large if large[k] != small[k]} == {"backbone", "weights"}
    teacher = load_recipe("kd_rnet_dota_teacher_r50").model_dump()
    assert {k for k in teacher if teacher[k] != alone[k]} == {"backbone", "weights"}


@pytest.mark.parametrize("name", DOTA)
def test_the_protocol_is_the_papers(name: str) -> None:
    recipe = load_recipe(name)
    assert (recipe.image_size, recipe.overlap, recipe.view) == (600, 300, "crop")
    text = shipped_recipes()[name].read_text(encoding="utf-8")
    assert "--size 600 --overlap 150 --split train" in text
    assert re.search(r"Figure: not measured here; paper's.* AP50 \d\d\.\d\d", text)


@pytest.mark.parametrize("name", NAMES)
def test_the_commands_in_its_header_exist(name: str) -> None:
    header = [line[2:] for line in shipped_recipes()[name].read_text().splitlines() if line.startswith("# fledge ")]
    group: Any = typer.main.get_command(app)
    for words in map(shlex.split, header):
        command = group.commands[words[1]]
        command.make_context(words[1], words[2:], resilient_parsing=False)
        if words[1] in ("train", "distill"):
            assert words[2] in NAMES


@pytest.mark.slow
def test_the_whole_protocol_at_full_size(tiles: Path, whole: Path, tmp_path: Path) -> None:
    """Teacher, distilled student, and AP on training and held-out whole images, all at 600 pixels. Two minutes."""
    common: dict[str, Any] = {"data": str(tiles), "eval_data": str(whole), "weights": "", "device": "cpu"}
    common |= {"workers": 0, "epochs": 1, "score_threshold": 0.5}
    teacher = api.train(load_recipe("kd_rnet_dota_teacher_r50", **common), tmp_path / "teacher")
    student = api.distill(load_recipe("kd_rnet_dota_distilled_r34", **common), tmp_path / "student", teacher)
    assert api.precision(student, split="train", device="cpu").images == 1
    result = api.evaluate(student, device="cpu")
    assert (result.dataset.root, result.dataset.split, len(result.dataset)) == (whole, "val", 1)
    assert result.metrics.classes == DOTA_V10
    assert result.cost.size == (608, 608)
