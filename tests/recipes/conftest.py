from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from fledge.data.catalogue.dota import DOTA_V10_CLASSES as DOTA_V10
from fledge.data.catalogue.sar_aircraft import SAR_AIRCRAFT_CLASSES
from fledge.data.catalogue.shiprsimagenet import LEVELS
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


def write_xml(root: Path, name: str, folders: tuple[str, str], body: list[str]) -> None:
    scene = render_scene(len(name), 96, 96, "harbour")
    pixels = cv2.imencode(Path(name).suffix, scene.image[..., ::-1])[1]
    write_bytes(root / folders[0] / name, pixels.tobytes())
    text = f"<annotation>\n<filename>{name}</filename>\n{''.join(body)}</annotation>\n"
    write_bytes(root / folders[1] / f"{Path(name).stem}.xml", text.encode())


@pytest.fixture(scope="session")
def sar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pascal VOC's tree and boxes, all seven classes, one grey square image a list."""
    root = tmp_path_factory.mktemp("SAR-AIRcraft-1.0")
    for k, split in enumerate(("train", "test")):
        things = [
            f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{5 + 12 * i}</xmin>"
            f"<ymin>{9 + 7 * i}</ymin><xmax>{23 + 12 * i}</xmax><ymax>{38 + 7 * i}</ymax></bndbox></object>\n"
            for i, name in enumerate(SAR_AIRCRAFT_CLASSES)
        ]
        write_xml(root, f"000000{k}.jpg", ("JPEGImages", "Annotations"), things)
        write_bytes(root / "ImageSets" / "Main" / f"{split}.txt", f"000000{k}\n".encode())
    return root


@pytest.fixture(scope="session")
def ship(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lists with suffixes, quadrilaterals, numbers of four levels; trainval made as the recipes' headers say."""
    root = tmp_path_factory.mktemp("ShipRSImageNet") / "data"
    base = root / "VOC_Format"
    for k, split in enumerate(("train", "val", "test")):
        things = []
        for i in range(6):
            x, y = 10 + 13 * i, 12 + 9 * i
            corners = [(x, y), (x + 26, y + 10), (x + 20, y + 24), (x - 6, y + 14)]
            tags = "".join(f"<x{j}>{a}</x{j}><y{j}>{b}</y{j}>" for j, (a, b) in enumerate(corners, start=1))
            levels = "<level_0>1</level_0><level_1>3</level_1><level_2>15</level_2><level_3>40</level_3>"
            thing = f"<object><name>{LEVELS[3][39 + i % 2]}</name><difficult>0</difficult>{levels}"
            things.append(f"{thing}\n<polygon>{tags}</polygon></object>\n")
        write_xml(base, f"00000{k}.bmp", ("JPEGImages", "annotations"), things)
        write_bytes(base / "ImageSets" / f"{split}.txt", f"00000{k}.bmp\n".encode())
    lists = [(base / "ImageSets" / f"{split}.txt").read_bytes() for split in ("train", "val")]
    write_bytes(base / "ImageSets" / "trainval.txt", b"".join(lists))
    return root
