"""IFKD's teachers and students alone: every row of Tables 1 and 2 builds and takes a step, on the data's own format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fledge import api
from fledge.build import build_detector, build_train_step
from fledge.data.catalogue.sar_aircraft import SAR_AIRCRAFT_CLASSES
from fledge.data.catalogue.shiprsimagenet import LEVELS
from fledge.engine.optim import make_optimizer
from fledge.recipe import load_recipe, shipped_recipes
from fledge.runs import open_split

SETS = {"sar": "SAR-AIRcraft-1.0", "ship": "ShipRSImageNet"}
DETECTORS = {"faster": "faster_rcnn", "retina": "retinanet"}
NETS = {"teacher_r50": "resnet50", "alone_r18": "resnet18", "alone_mbv2": "mobilenetv2_1280"}
NAMES = [f"ifkd_{d}_{k}_{n}" for d in SETS for k in DETECTORS for n in NETS]
SMALL: dict[str, Any] = {
    "image_size": 64, "short_side": 48, "overlap": 32, "weights": "", "workers": 0, "device": "cpu", "batch_size": 1,
    "proposals": 40, "region_samples": 16,
}  # fmt: skip


def test_every_row_has_a_recipe() -> None:
    alone = {n for n in shipped_recipes() if n.startswith("ifkd_") and load_recipe(n).method == "none"}
    assert alone == set(NAMES)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if "teacher" in n else ()) for n in NAMES])
def test_it_takes_a_step(name: str, sar: Path, ship: Path) -> None:
    recipe = load_recipe(name, data=str(sar if "_sar_" in name else ship), **SMALL)
    dataset = open_split(recipe, recipe.data, recipe.train_split)
    assert len(dataset) == (1 if "_sar_" in name else 2)
    assert set(dataset.classes) <= set(SAR_AIRCRAFT_CLASSES if "_sar_" in name else LEVELS[3])
    assert len(open_split(recipe, recipe.data, recipe.eval_split, dataset.classes)) == 1
    step = build_train_step(recipe, build_detector(recipe, dataset.classes), None).train()
    optimizer = make_optimizer(step, recipe.optimizer, recipe.lr, recipe.weight_decay, recipe.momentum)
    before = {k: p.detach().clone() for k, p in step.student.named_parameters()}
    terms = step(next(iter(api.training_batches(recipe, dataset, 0, 1))))
    assert all(bool(value.isfinite()) and float(value.detach()) > 0 for value in terms.values())
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    moved = {k for k, p in step.student.named_parameters() if not torch.equal(p.detach(), before[k])}
    learning = {k for k, p in step.student.named_parameters() if p.requires_grad}
    assert moved <= learning
    assert len(moved) > 0.6 * len(learning)


@pytest.mark.parametrize("name", NAMES)
def test_the_protocol_is_the_papers(name: str) -> None:
    recipe = load_recipe(name)
    _, data, kind, net = name.split("_", 3)
    assert (Path(recipe.data).name, recipe.detector, recipe.backbone) == (SETS[data], DETECTORS[kind], NETS[net])
    assert (recipe.epochs, recipe.milestones, recipe.warmup_steps, recipe.weight_decay) == (100, (80, 90), 500, 1e-4)
    assert (recipe.lr, recipe.batch_size) == ({"faster": 0.02, "retina": 0.005}[kind], 8)
    assert (recipe.view, recipe.hflip, recipe.vflip) == ("fit", True, False)
    assert (recipe.image_size, recipe.short_side) == {"sar": (800, 0), "ship": (1333, 800)}[data]
    assert recipe.horizontal


def test_rows_of_a_table_differ_in_what_they_compare() -> None:
    for kind in DETECTORS:
        teacher, r18, mbv2 = (load_recipe(f"ifkd_sar_{kind}_{net}").model_dump() for net in NETS)
        assert {k for k in teacher if teacher[k] != r18[k]} == {"backbone", "weights"}
        assert {k for k in teacher if teacher[k] != mbv2[k]} == {"backbone", "weights", "frozen_stages", "freeze_norm"}
        other = load_recipe(f"ifkd_ship_{kind}_alone_r18").model_dump()
        assert {k for k in r18 if r18[k] != other[k]} == {"data", "train_split", "image_size", "short_side"}
