"""Images in two splits (§ labels and datasets): one function a row, its docstring the row."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import pytest
from tests.data.made import dota_folder, line, noise, rectangle

import fledge.cli


def test_a_duplicate_image_between_train_and_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Duplicate image between train and test: `fledge check` reports it by its content, under any name and in any
    lossless format, and exits with 3."""
    text = line(rectangle(50, 40, 20, 10, 30), "ship")
    image = noise(80, 100)
    scenes = {"a": (image, text), "b": (noise(80, 100, 1), text)}
    root = dota_folder(tmp_path / "data", {"train": scenes, "test": {"c": (noise(80, 100, 2), text)}})
    monkeypatch.setattr(sys, "argv", ["fledge", "check", str(root)])
    with pytest.raises(SystemExit) as stop:
        fledge.cli.main()
    assert not stop.value.code, "sound so far"

    assert cv2.imwrite(str(root / "test" / "images" / "other.bmp"), image[..., ::-1])
    (root / "test" / "labelTxt" / "other.txt").write_text(text)
    with pytest.raises(SystemExit) as stop:
        fledge.cli.main()
    assert stop.value.code == 3
    shown = capsys.readouterr().out
    assert "1 image has the same pixels as one of" in shown
    assert "other.bmp" in shown
    assert "a.png" in shown
