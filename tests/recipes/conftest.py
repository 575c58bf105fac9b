from __future__ import annotations

from pathlib import Path

import pytest

from fledge.data.catalogue.dota import DOTA_V10_CLASSES as DOTA_V10
from fledge.data.synthetic import render_scene
from fledge.files import write_bytes
from fledge.visualize.images import encode


def write_dota(root: Path, split: str, names: dict[str, tuple[int, int]]) -> None:
    """Rendered scenes under DOTA's names and classes, with its header lines and difficult flags.

    The objects take DOTA's fifteen classes in turn: what they look like does not matter here.
    """
    for seed, (name, (height, width)) in enumerate(names.items()):
        scene = render_scene(seed, height, width, "town")
        lines = ["imagesource:GoogleEarth", f"gsd:{0.1 + seed / 10}"]
        for k, quad in enumerate(scene.quads):
            corners = " ".join(f"{v:.1f}" for v in quad.ravel())
            lines.append(f"{corners} {DOTA_V10[k % len(DOTA_V10)]} {int(k % 7 == 6)}")
        write_bytes(root / split / "images" / f"{name}.png", encode(scene.image, "png"))
        write_bytes(root / split / "labelTxt" / f"{name}.txt", ("\n".join(lines) + "\n").encode())


@pytest.fixture(scope="session")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiles of 600 pixels, as cut for training."""
    root = tmp_path_factory.mktemp("dota_600_150")
    write_dota(root, "train", {"P0000__600__0___0": (600, 600), "P0003__600__450___0": (600, 600)})
    return root


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whole images of both splits, one of them larger than a window."""
    root = tmp_path_factory.mktemp("dota")
    write_dota(root, "train", {"P0000": (600, 700)})
    write_dota(root, "val", {"P0001": (640, 900)})
    return root
