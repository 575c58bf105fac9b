"""The how-to pages are complete: their Python, run in order, does what they say."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from fledge import build, distillers, recipe
from fledge.data import datasets
from fledge.engine.metric_log import read_metrics

PAGES = Path(__file__).parents[1] / "docs" / "howto"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def tables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a page adds to the tables is gone after its test; its files are under a temporary folder."""
    monkeypatch.setitem(recipe.METHODS, "hint", recipe.DistillRecipe)
    monkeypatch.setitem(distillers.DISTILLERS, "hint", lambda *_: None)
    monkeypatch.setattr(build, "BACKBONES", dict(build.BACKBONES))
    monkeypatch.setattr(datasets, "FORMATS", dict(datasets.FORMATS))
    monkeypatch.chdir(tmp_path)


def run(page: str) -> dict[str, Any]:
    text = (PAGES / page).read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "howto"}
    exec(compile("\n".join(BLOCK.findall(text)), page, "exec", dont_inherit=True), names)
    return names


def test_add_a_method() -> None:
    run("add_a_method.md")
    logged = {name: value for _, name, value in read_metrics(Path("runs/student/metrics.csv"))}
    assert logged["hint"] > 0
    assert logged["loss"] == pytest.approx(logged["cls"] + logged["box"] + logged["hint"], rel=1e-4)


def test_add_a_backbone() -> None:
    run("add_a_backbone.md")
    assert all(Path("runs", name, "recipe.toml").is_file() for name in ("regnety_002", "resnet10_narrow"))


def test_add_a_dataset(capsys: pytest.CaptureFixture[str]) -> None:
    names = run("add_a_dataset.md")
    dataset = names["dataset"]
    assert dataset.classes == ("boat",)
    assert dataset.format == "table"
    box = dataset.targets(0).boxes[0].tolist()
    assert box == pytest.approx([31.5, 20.0, 24, 10, math.pi / 6], rel=1e-5)
    assert "train.csv:2" in capsys.readouterr().out
