"""IFKD's distilled rows at full scale: shipped recipes of Tables 1 and 2, studies of Tables 3 and 4 and of Figure 5.

Full networks, the data's own format, images of 64 pixels, and a map of edges in place of MobileSAM, whose weights are
not shipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fledge import api
from fledge.build import build_detector, build_train_step
from fledge.engine.optim import make_optimizer
from fledge.errors import UsageError
from fledge.models.detectors.dense import DenseDetector
from fledge.recipe import METHODS, DistillRecipe, Recipe, load_recipe, make_recipe, shipped_recipes
from fledge.runs import open_split
from fledge.study.plan import Plan
from fledge.study.spec import load_study

STUDIES = Path(__file__).parents[2] / "benchmarks" / "studies" / "ifkd"
ROWS = [f"ifkd_{d}_{k}_ifkd_{n}" for d in ("sar", "ship") for k in ("faster", "retina") for n in ("r18", "mbv2")]
BASELINES = {"none", "at", "fitnet", "fkd", "insdist", "arsd", "frs", "fgd", "ifkd"}
SETS = {"table3_sar": "sar", "table3_ship": "ship", "table4": "ship", "figure5": "sar"}
SMALL: dict[str, Any] = {
    "image_size": 64, "short_side": 48, "overlap": 32, "weights": "", "workers": 0, "device": "cpu", "batch_size": 1,
    "proposals": 40, "region_samples": 16,
}  # fmt: skip


def arms(study: str) -> dict[str, Recipe]:
    """What each arm of a study trains."""
    plan = Plan(load_study(STUDIES / f"{study}.toml"))
    (teacher,) = plan.teachers()
    return {name: jobs[0].recipe for name, jobs in plan.reports(teacher, {}).items()}


ARMS = [(study, name) for study in SETS for name in arms(study)]


def small(recipe: Recipe, data: Path) -> Recipe:
    changes = {**recipe.model_dump(mode="json"), **SMALL, "data": str(data)}
    if changes.get("ifkd_disturbance") == "mobilesam":
        changes |= {"ifkd_disturbance": "edges", "ifkd_embedder_weights": ""}
    return make_recipe(changes, "test")


@pytest.fixture(scope="module")
def teachers() -> dict[str, DenseDetector]:
    return {}


def takes_a_step(recipe: Recipe, teachers: dict[str, DenseDetector]) -> None:
    """Every term is finite and a distilled student's trainable weights move, the teacher's do not."""
    dataset = open_split(recipe, recipe.data, recipe.train_split)
    student, teacher = build_detector(recipe, dataset.classes), None
    if isinstance(recipe, DistillRecipe):
        key = f"{recipe.data} {recipe.detector}"
        if key not in teachers:
            source = load_recipe(Path(recipe.teacher or "ifkd_sar_retina_teacher_r50").name, **SMALL)
            assert source.detector == recipe.detector
            teachers[key] = build_detector(source, dataset.classes)
        teacher = teachers[key]
    step = build_train_step(recipe, student, teacher).train()
    kept = {k: v.clone() for k, v in teacher.state_dict().items()} if teacher else {}
    optimizer = make_optimizer(step, recipe.optimizer, recipe.lr, recipe.weight_decay, recipe.momentum)
    before = {k: p.detach().clone() for k, p in student.named_parameters()}
    terms = step(next(iter(api.training_batches(recipe, dataset, 0, 1))))
    assert all(bool(value.isfinite()) for value in terms.values())
    if isinstance(recipe, DistillRecipe):
        assert set(recipe.weight_fields()) == {k for k in terms if k.startswith("kd_")}
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    moved = {k for k, p in student.named_parameters() if not torch.equal(p.detach(), before[k])}
    learning = {k for k, p in student.named_parameters() if p.requires_grad}
    assert moved <= learning
    assert len(moved) > 0.6 * len(learning)
    assert not teacher or all(torch.equal(v, kept[k]) for k, v in teacher.state_dict().items())


def test_every_row_of_tables_1_and_2_has_a_recipe() -> None:
    named = {n for n in shipped_recipes() if n.startswith("ifkd_") and load_recipe(n).method != "none"}
    assert named == set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_its_student_with_a_teacher(name: str) -> None:
    recipe, alone = load_recipe(name).model_dump(), load_recipe(name.replace("_ifkd_", "_alone_")).model_dump()
    assert {k for k in alone if alone[k] != recipe[k]} == {"method"}
    head, _, _ = name.rpartition("_ifkd_")
    assert recipe["teacher"] == f"runs/{head}_teacher_r50"
    assert (recipe["ifkd_feat_weight"], recipe["ifkd_head_weight"], recipe["ifkd_on"]) == (0.06, 0.5, "frs")


def test_without_weights_the_error_says_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("ifkd_sar_retina_ifkd_r18", **SMALL, backbone="resnet18_quarter", freeze_norm=False)
    student = build_detector(recipe, ["A220"])
    with pytest.raises(UsageError, match=r"mobile_sam\.pt.*https://.*edges, which have no weights"):
        build_train_step(recipe, student, build_detector(recipe, ["A220"]))


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if "r18" in n else ()) for n in ROWS])
def test_a_row_takes_a_step(name: str, sar: Path, ship: Path, teachers: dict[str, DenseDetector]) -> None:
    takes_a_step(small(load_recipe(name), sar if "_sar_" in name else ship), teachers)


@pytest.mark.slow
@pytest.mark.parametrize(("study", "arm"), ARMS)
def test_an_arm_takes_a_step(study: str, arm: str, sar: Path, ship: Path, teachers: dict[str, DenseDetector]) -> None:
    takes_a_step(small(arms(study)[arm], sar if SETS[study] == "sar" else ship), teachers)


@pytest.mark.parametrize("study", SETS)
def test_a_study_claims_nothing(study: str) -> None:
    declared = load_study(STUDIES / f"{study}.toml")
    assert declared.study.comparisons == ()
    assert len(declared.study.seeds) == 3
    assert declared.teacher is not None
    recipes = arms(study).values()
    assert {(r.detector, r.backbone, r.epochs) for r in recipes} == {("retinanet", "mobilenetv2_1280", 100)}
    assert declared.teacher.backbone == "resnet50"
    assert {Path(r.data).name for r in recipes} == {Path(declared.teacher.data).name}


@pytest.mark.parametrize("study", ["table3_sar", "table3_ship"])
def test_table_3_has_every_method_with_the_weights_of_one_stage(study: str) -> None:
    found = arms(study)
    assert set(found) == BASELINES
    for name, recipe in found.items():
        assert str(recipe.method) == name
        own = set(METHODS[name].model_fields) - set(DistillRecipe.model_fields)
        default = METHODS[name].model_validate({}) if name != "none" else recipe
        changed = {k for k in own if getattr(recipe, k) != getattr(default, k)}
        assert changed == {"ifkd_embedder_weights"} & own


def test_table_4_has_its_eight_rows_both_ways() -> None:
    found = arms("table4")
    assert len(found) == 16
    seen = set()
    for name, recipe in found.items():
        whole, *on = name.split("_")
        plain = {"at": "ones", "ifkd": "frs"}[whole]
        values = recipe.model_dump()
        assert values["ifkd_on"] == {"at": "at", "ifkd": "frs"}[whole]
        assert values["ifkd_disturbance"] == ("mobilesam" if "ede" in on else "none")
        assert values["ifkd_embedder_weights"] == ("mobile_sam.pt" if "ede" in on else "")
        assert values["ifkd_frequency"] is ("fdr" in on)
        assert values["ifkd_mask"] == ("hyperbolic" if "hsm" in on else plain)
        seen.add((whole, frozenset(on)))
    assert len(seen) == 16


def test_figure_5_varies_one_weight_at_a_time() -> None:
    settings = [recipe.model_dump() for recipe in arms("figure5").values()]
    points = {(values["ifkd_feat_weight"], values["ifkd_head_weight"]) for values in settings}
    assert len(settings) == 9
    alphas = {(a, 0.5) for a in (0.006, 0.02, 0.06, 0.2, 0.6)}
    assert points == alphas | {(0.06, b) for b in (0.05, 0.2, 0.5, 1.0, 2.0)}
