"""The command line as a user meets it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import fledge
import fledge.cli
from fledge.cli.train import resolve
from fledge.data.synthetic import write_dataset
from fledge.errors import DataError, NumericError, ResourceError, UsageError

COMMANDS = (
    "quickstart", "train", "distill", "evaluate", "export", "benchmark", "detect", "map", "serve", "check", "tile",
    "convert", "replay", "datasets", "methods", "doctor", "study", "compare", "subset",
    "pictures",
)  # fmt: skip
RECIPE = """\
backbone = "resnet18_quarter"
neck_channels = 16
head_convs = 1
image_size = 64
overlap = 16
batch_size = 2
epochs = 1
workers = 0
warmup_steps = 1
score_threshold = 0.005
max_detections = 20
"""


def python(*code: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *code], capture_output=True, text=True, check=False, env=env)


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run ``fledge ARGUMENTS`` here: (exit code, standard output, standard error)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fledge", *map(str, arguments)])
        monkeypatch.setattr(fledge.cli, "_show_traceback", False)
        try:
            fledge.cli.main()
            code: Any = 0
        except SystemExit as stop:
            code = stop.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cli")
    write_dataset(root / "data", "train", 4, 64, 0)
    write_dataset(root / "data", "val", 2, 64, 0)
    (root / "tiny.toml").write_text(RECIPE)
    return root


def test_help_is_light() -> None:
    code = (
        "import sys, fledge.cli\nsys.argv = ['fledge', '--help']\ntry:\n    fledge.cli.main()\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'torch', 'timm', 'cv2', 'numpy', 'torchvision', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert all(command in done.stdout for command in COMMANDS)


def test_as_a_module() -> None:
    done = python("-m", "fledge", "--version")
    assert (done.returncode, done.stdout) == (0, f"fledge {fledge.__version__}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_examples(command: str) -> None:
    result = CliRunner().invoke(fledge.cli.app, [command, "--help"])
    assert result.exit_code == 0
    assert "Examples" in result.output
    assert result.output.count(f"fledge {command}") >= 1


def test_every_command_is_tested() -> None:
    assert {c.callback.__name__ for c in fledge.cli.app.registered_commands if c.callback} == set(COMMANDS)


def test_methods(main: Any) -> None:
    code, out, _ = main("methods")
    assert code == 0
    assert "kd_rnet" in out
    code, out, _ = main("methods", "kd_rnet")
    assert code == 0
    assert "Differs from the paper:" in out
    code, _, err = main("methods", "kdrnet")
    assert (code, err.count("\n")) == (2, 1)
    assert "kd_rnet" in err


def test_datasets(main: Any) -> None:
    code, out, _ = main("datasets")
    assert code == 0
    assert re.search(r"^dior-r +oriented +20 classes, 23,463 images, 192,518 objects$", out, re.MULTILINE)
    code, out, _ = main("datasets", "sar-aircraft-1.0")
    assert code == 0
    assert "1 A320/321 (1,771)" in out
    code, _, err = main("datasets", "dior_r")
    assert (code, err.count("\n")) == (2, 1)
    assert "dior-r" in err


def test_doctor(main: Any) -> None:
    code, out, _ = main("doctor")
    assert code == 0
    assert out.count("ok  ") == len(out.splitlines()) >= 5


def test_a_sick_installation_fails_the_doctor(main: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import fledge.diagnosis

    def broken() -> str:
        raise OSError("no such library")

    monkeypatch.setitem(fledge.diagnosis.CHECKS, "broken", broken)
    code, out, _ = main("doctor")
    assert code == 1
    assert "FAIL  broken: OSError: no such library" in out


def test_train_evaluate_detect_distil(main: Any, place: Path) -> None:
    run, data = place / "run", place / "data"
    code, out, _ = main("train", place / "tiny.toml", "--data", data, "--out", run, "--seed", 1, "--device", "cpu")
    assert code == 0
    assert f"fledge evaluate {run}" in out

    code, out, _ = main("evaluate", run, "--out", place / "r.json", "--protocol", "hrsc_07", "--device", "cpu")
    assert code == 0
    assert "11 points (VOC07)" in out
    record = json.loads((place / "r.json").read_text())
    assert (record["images"], record["protocol"]["name"]) == (2, "hrsc_07")

    images = data / "val" / "images"
    classes = len(record["classes"])
    for form, files in (("gpkg", 2), ("csv", 1), ("dota", classes), ("coco", 1), ("yolo", 3)):
        folder = place / form
        code, out, err = main("detect", run, images, "--format", form, "--out", folder, "--score", 0)
        assert code == 0, err
        assert len(list(folder.iterdir())) == files
        assert "objects in 2 scenes, 2 windows (0 without data)" in out
        assert "no coordinate reference system" in out
        assert (f"written to {folder}: {files} files" in out) == (files > 1)
    code, _, err = main("detect", run, images, "--format", "geojson", "--out", place / "geojson")
    assert (code, "GeoJSON holds nothing else" in err) == (2, True)
    first = sorted(images.iterdir())[0]
    code, out, _ = main("detect", run, first, "--out", place / "one.gpkg", "--picture")
    assert (code, sorted(p.name for p in place.glob("one*"))) == (0, ["one.gpkg", "one.gpkg.jpg"])
    code, _, err = main("detect", run, first, "--out", place / "one.gpkg")
    assert (code, "output exists" in err) == (2, True)
    code, _, err = main("detect", run, first, "--out", place / "one.gpkg", "--format", "csv")
    assert (code, "which format" in err) == (2, True)

    student = ("distill", place / "tiny.toml", "--data", data, "--teacher", run, "--set", "method=kd_rnet")
    code, out, _ = main(*student, "--out", place / "student")
    assert code == 0
    assert (place / "student" / "checkpoints").is_dir()


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("train", "absent.toml"), 2, "no such recipe"),
        (("train", "{p}/tiny.toml"), 2, "no data"),
        (("train", "{p}/tiny.toml", "--set", "lr"), 2, "KEY=VALUE"),
        (("train", "{p}/tiny.toml", "--set", "epoch=3"), 2, "epochs"),
        (("train", "{p}/tiny.toml", "--data", "{p}/absent"), 3, "no such folder"),
        (("distill", "{p}/tiny.toml", "--data", "{p}/data"), 2, "nothing to distil"),
        (("evaluate", "{p}/absent"), 3, "no checkpoint"),
        (("detect", "{p}/absent", "{p}/absent.png"), 3, "no such image"),
        (("quickstart", "--full", "--smallest"), 2, "choose one"),
    ],
)
def test_errors_are_one_line(main: Any, place: Path, arguments: tuple[str, ...], code: int, text: str) -> None:
    given = [a.format(p=place) for a in arguments]
    got, _, err = main(*given, *(("--out", place / "nowhere") if arguments[0] == "train" else ()))
    assert got == code
    assert err.startswith("fledge: ")
    assert err.count("\n") == 1
    assert text in err
    assert not (place / "nowhere").exists()


def test_debug_shows_the_traceback(main: Any) -> None:
    code, _, err = main("--debug", "evaluate", "absent")
    assert code == 3
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("fledge: no checkpoint")
    code, _, err = main("evaluate", "absent")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments", [("evaluate",), ("train", "x", "--nonsense"), ("nonsense",), ("detect", "x", "y", "--score", "2")]
)
def test_wrong_usage_exits_with_two(main: Any, arguments: tuple[str, ...]) -> None:
    code, _, err = main(*arguments)
    assert code == 2
    assert "Traceback" not in err


def test_exit_codes() -> None:
    from fledge.engine.loop import Interrupted

    kinds = (UsageError, DataError, NumericError, ResourceError, Interrupted)
    assert [kind.exit_code for kind in kinds] == [2, 3, 4, 5, 130]


def test_set_takes_toml_values_and_bare_words() -> None:
    settings = ["lr=0.5", "epochs = 3", "milestones=[1, 2]", "hflip=false", "view=fit", 'data="a b"', "weights=x=y"]
    recipe = resolve("quickstart_student", settings, data="elsewhere", seed=None, device="cpu")
    assert (recipe.lr, recipe.epochs, recipe.milestones, recipe.hflip) == (0.5, 3, (1, 2), False)
    assert (recipe.view, recipe.data, recipe.weights, recipe.device) == ("fit", "a b", "x=y", "cpu")
