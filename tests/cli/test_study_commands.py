"""``fledge study``, ``compare`` and ``subset`` as a user meets them; what they compute is tested in tests/study."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.faults.tiny import tiles
from tests.study.made import write_data, write_study

import fledge.cli
from fledge.study import runner
from fledge.study.jobs import run_job


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run ``fledge ARGUMENTS`` here, jobs included: (exit code, standard output, standard error)."""

    def process(spec: Path) -> int:
        run_job(spec)
        return 0

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fledge", *map(str, arguments)])
        monkeypatch.setattr(runner, "_process", process)
        try:
            fledge.cli.main()
            code: Any = 0
        except SystemExit as stop:
            code = stop.code or 0
        return code, *capsys.readouterr()

    return call


def test_study_and_compare(main: Any, tmp_path: Path) -> None:
    write_data(tmp_path)
    file = write_study(tmp_path)
    code, out, err = main("study", file, "--out", tmp_path / "out", "--workers", "1")
    assert code == 0, err
    assert "kd minus none: " in out
    assert f"report: {tmp_path / 'out' / 'report.html'}" in out
    runs = {}
    for row in (tmp_path / "out" / "runs.csv").read_text().splitlines()[1:]:
        arm, seed, *_, key = row.split(",")
        runs[f"{arm}{seed}"] = tmp_path / "out" / "runs" / key / "run"
    named = [f"plain={runs['none100']}", f"plain={runs['none101']}", f"kd={runs['kd100']}", f"kd={runs['kd101']}"]
    code, out, err = main("compare", *named, "--out", tmp_path / "compared", "--primary", "AP75")
    assert code == 0, err
    assert "between kd and plain" in out
    assert json.loads((tmp_path / "compared" / "study.json").read_text())["declared"]["primary"] == "AP75"
    code, _, err = main("compare", *named, "--primary", "mAP")
    assert (code, err) == (2, "fledge: unknown measure 'mAP': --primary: use AP50, AP75 or AP50:95\n")


def test_a_wrong_study(main: Any, tmp_path: Path) -> None:
    code, _, err = main("study", write_study(tmp_path, "primari = 'AP50'"))
    assert code == 2
    assert err.endswith("unknown key 'primari', did you mean 'primary'?\n")


def test_subset(main: Any, tmp_path: Path) -> None:
    data = tiles(tmp_path / "data")
    code, out, _ = main("subset", data, "--fraction", "0.5", "--out", tmp_path / "half.txt")
    assert (code, out) == (0, f"4 of 8 images of 1 groups: {tmp_path / 'half.txt'}\n")
    assert len((tmp_path / "half.txt").read_text().splitlines()) == 4
    code, _, err = main("subset", data, "--group", "x", "--groups", "y.csv", "--out", tmp_path / "l.txt")
    assert code == 2
    assert "give one of them" in err
    code, _, err = main("subset", data, "--group", "nowhere", "--out", tmp_path / "l.txt")
    assert code == 2
    assert "no group" in err
