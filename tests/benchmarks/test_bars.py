from __future__ import annotations

from pathlib import Path

import numpy as np
from benchmarks.studies.synthetic.bars import CLASSES, SIDE, draw, write_bars

from fledge.data.datasets import open_dataset


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_bars(tmp_path, {"train": 12, "test": 8})
    dataset = open_dataset(tmp_path, "train")
    assert (len(dataset), dataset.classes) == (12, tuple(sorted(CLASSES)))
    for i, name in enumerate(dataset.ids):
        image, text = draw("train", int(name[-4:]))
        assert (dataset.read(i) == image).all()
        assert len(dataset.targets(i)) == len(text.splitlines())
    assert dataset.quads.min() > -8
    assert dataset.quads.max() < SIDE + 8


def test_an_image_is_of_its_split_and_number_alone() -> None:
    images = [draw(split, number)[0] for split in ("train", "tune") for number in (0, 1)]
    assert len({image.tobytes() for image in images}) == 4
    assert (draw("train", 1)[0] == images[1]).all()


def test_labelled_bars_are_bright_and_some_bars_are_not_labelled() -> None:
    drawn = [draw("train", i) for i in range(60)]
    rows = [(image, line.split()) for image, text in drawn for line in text.splitlines()]
    inside = [
        image[int(y), int(x), 0]
        for image, row in rows
        if row[8] == "plain"
        for x, y in [np.array(row[:8], dtype=float).reshape(4, 2).mean(axis=0)]
    ]
    assert np.mean(inside) > 130 > np.mean([np.median(image) for image, _ in drawn])
    kinds = [row[8] for _, row in rows]
    assert min(kinds.count(name) for name in CLASSES) > 20
