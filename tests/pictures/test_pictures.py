"""``fledge pictures`` on the smallest runs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tests.distill.doubles import Means
from tests.faults.tiny import recipe, tiles
from typer.testing import CliRunner

from fledge import api
from fledge.cli import app
from fledge.distill.parts.embedding import Disturbance
from fledge.errors import FledgeError, UsageError
from fledge.models.embedders.orthogonal import orthogonal_map
from fledge.pictures.lesson import _corner, batch_of, class_vectors, compared, open_lesson, stages
from fledge.pictures.page import _all_pairs
from fledge.runs import open_split
from fledge.types import Targets

METHODS: dict[str, dict[str, Any]] = {
    "ifkd": {"method": "ifkd", "ifkd_disturbance": "none"},
    "at": {"method": "ifkd", "ifkd_disturbance": "none", "ifkd_on": "at", "ifkd_frequency": False},
    "kd_rnet": {"method": "kd_rnet"},
    "pkd": {"method": "pkd"},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pictures")
    data = tiles(root / "data", 4)
    short = {"epochs": 1, "ema_decay": 0.0, "balance_every": 0}
    found = {"teacher": api.train(recipe(data, epochs=1, ema_decay=0.0, neck_channels=16), root / "teacher")}
    found["alone"] = api.train(recipe(data, epochs=1, ema_decay=0.0), root / "alone")
    for name, settings in METHODS.items():
        made = recipe(data, teacher=str(found["teacher"]), **short, **settings)
        found[name] = api.distill(made, root / name)
    return found


def call(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["pictures", *map(str, arguments), "--device", "cpu"], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_the_pictures_and_the_page(runs: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    told = call(f"student={runs['alone']}", runs["ifkd"], "--count", 2, "--score", 0.01, "--out", out)
    assert "pictures.html" in told
    kinds = {"image", "teacher", "teacher-reconstructed", "student", "euclidean", "hyperbolic"}
    kinds |= {"detections-teacher", "detections-student", "detections-ifkd"}
    assert {p.name for p in out.iterdir()} == {f"{n:02d}-{k}.png" for n in (1, 2) for k in kinds} | {"pictures.html"}
    for path in out.glob("*.png"):
        picture = cv2.imread(str(path))
        assert picture is not None
        assert picture.shape == (480, 480, 3)
    page = (out / "pictures.html").read_text()
    for words in ("Maps", "Distances of student and teacher", "Distances of classes", "Detections", "curvature 1"):
        assert words in page
    assert page.count("<img") >= 2 * (4 + 3 + 3)
    assert not re.search(r'(src|href)="(?!data:)', page)


@pytest.mark.parametrize("name", METHODS)
def test_any_distilled_run_can_be_looked_into(name: str, runs: dict[str, Path], tmp_path: Path) -> None:
    call(runs[name], "--count", 1, "--level", "p4", "--out", tmp_path)
    found = {p.name for p in tmp_path.iterdir()}
    assert {"pictures.html", "01-teacher.png", "01-student.png", f"01-detections-{name}.png"} <= found
    # Without an adapter, maps of 8 and 16 channels cannot be compared.
    assert ("01-hyperbolic.png" in found) == (name in ("ifkd", "pkd"))


def test_what_is_compared_is_what_the_method_compares(runs: dict[str, Path]) -> None:
    lesson = open_lesson({"ifkd": runs["ifkd"]}, "", "", torch.device("cpu"))
    dataset = open_split(lesson.recipe, lesson.recipe.data, "val", lesson.step.student.classes)  # type: ignore[arg-type]
    batch = batch_of(dataset, 0, lesson.recipe, lesson.step)
    found = compared(lesson, batch, "p3")
    assert found is not None
    parts = lesson.step.distiller.parts  # type: ignore[union-attr]
    seen: list[Any] = []
    weigh = parts.weights  # type: ignore[union-attr]

    def note(own: Any, target: Any, scores: Any) -> Any:
        seen.append((own, target))
        return weigh(own, target, scores)  # type: ignore[operator]

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(parts, "weights", note)
        lesson.step(batch)
    torch.testing.assert_close(found, seen[0])
    assert list(stages(lesson, batch, "p3")) == ["teacher", "teacher reconstructed", "student"]
    other = replace(lesson, disturbance=Disturbance(Means(), 16, orthogonal_map(3, 16, 0)))
    maps = stages(other, batch, "p3")
    assert list(maps) == ["teacher", "disturbance", "teacher disturbed", "teacher reconstructed", "student"]
    torch.testing.assert_close(maps["teacher disturbed"] - maps["teacher"], maps["disturbance"])
    assert 0 < float(maps["disturbance"].min()) < float(maps["disturbance"].max()) < 1
    changed = compared(other, batch, "p3")
    assert changed is not None
    torch.testing.assert_close(changed[1], maps["teacher reconstructed"])


def test_a_disturbance_can_be_shown_for_any_run(runs: dict[str, Path], tmp_path: Path) -> None:
    call(runs["kd_rnet"], "--count", 1, "--disturbance", "edges", "--out", tmp_path)
    assert {"01-disturbance.png", "01-teacher-disturbed.png"} <= {p.name for p in tmp_path.iterdir()}
    assert "Disturbed by edges: Sobel magnitude" in (tmp_path / "pictures.html").read_text()


def test_vectors_of_classes_by_hand(runs: dict[str, Path]) -> None:
    lesson = open_lesson({"pkd": runs["pkd"]}, "", "", torch.device("cpu"))
    dataset = open_split(lesson.recipe, lesson.recipe.data, "val", lesson.step.student.classes)  # type: ignore[arg-type]
    rows: dict[int, list[np.ndarray]] = {}
    for i in range(len(dataset)):
        batch = batch_of(dataset, i, lesson.recipe, lesson.step)
        features = lesson.outputs(batch)[1].features["p3"][0]
        target = batch.targets[0]
        for box, label, ignore in zip(target.boxes, target.labels.tolist(), target.ignore.tolist(), strict=True):
            x, y, w, h, angle = box.tolist()
            inside = []
            for row in range(features.shape[1]):
                for column in range(features.shape[2]):
                    dx, dy = 8 * (column + 0.5) - x, 8 * (row + 0.5) - y
                    along = dx * np.cos(angle) + dy * np.sin(angle)
                    across = dy * np.cos(angle) - dx * np.sin(angle)
                    if abs(along) <= w / 2 and abs(across) <= h / 2:
                        inside.append(features[:, row, column])
            if not inside:
                cell = [min(max(int(v // 8), 0), n - 1) for v, n in ((y, features.shape[1]), (x, features.shape[2]))]
                inside = [features[:, cell[0], cell[1]]]
            if not ignore:
                rows.setdefault(label, []).append(torch.stack(inside).mean(dim=0).numpy())
    found = class_vectors(lesson, dataset, "p3")
    assert list(found) == sorted(rows)
    for label, vectors in rows.items():
        np.testing.assert_allclose(found[label].numpy(), np.mean(vectors, axis=0), rtol=1e-5, atol=1e-6)


def test_distances_of_all_pairs() -> None:
    points = torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.3, 0.1]], dtype=torch.float64)
    table = _all_pairs(points)
    assert torch.equal(table, table.T)
    assert table.diag().tolist() == [0, 0, 0]
    assert table[0, 1].item() == pytest.approx(np.log(3))


def test_the_window_with_the_most_objects() -> None:
    boxes = torch.tensor([[10.0, 10, 4, 4, 0], [200, 150, 4, 4, 0], [215, 160, 4, 4, 0], [290, 190, 4, 4, 0]])
    no = torch.zeros(4, dtype=torch.bool)
    targets = Targets(boxes, torch.zeros(4, dtype=torch.int64), no, no)
    assert _corner((200, 300), targets, 64) == (168, 118)
    assert _corner((200, 300), targets.select(torch.tensor([3])), 64) == (236, 136)
    assert _corner((50, 40), targets.select(torch.tensor([0])), 64) == (0, 0)
    assert _corner((200, 300), Targets.empty(), 64) == (0, 0)


def test_what_is_wrong_is_named(runs: dict[str, Path], tmp_path: Path) -> None:
    for arguments, message in (
        ([runs["alone"]], "no teacher: .*alone: name a distilled run among them"),
        ([runs["ifkd"], "--level", "p9"], "no level 'p9' in both networks: use one of c3, c4, c5, p3"),
        ([runs["ifkd"], runs["ifkd"]], "two of one name"),
        ([f"teacher={runs['ifkd']}"], "two of one name"),
    ):
        with pytest.raises((UsageError, FledgeError), match=message):
            call(*arguments, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
