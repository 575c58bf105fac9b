"""ShipRSImageNet: quadrilaterals, four levels of classes, and its COCO files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.data.miniatures import image, shiprsimagenet, text

from fledge.data.catalogue.shiprsimagenet import LEVELS, level_numbers
from fledge.data.datasets import open_dataset
from fledge.errors import DataError

QUAD = (44.0, 11.0, 70.0, 26.0, 63.0, 38.0, 40.0, 22.0)


def thing(name: str = "Cargo", levels: tuple[object, ...] = (1, 3, 15, 40), quad: tuple[object, ...] = QUAD) -> str:
    tags = "".join(f"<level_{k}>{number}</level_{k}>" for k, number in enumerate(levels))
    corners = "".join(f"<{'xy'[k % 2]}{k // 2 + 1}>{v}</{'xy'[k % 2]}{k // 2 + 1}>" for k, v in enumerate(quad))
    return f"<object><name>{name}</name><difficult>0</difficult>{tags}\n<polygon>{corners}</polygon></object>\n"


def make(root: Path, *objects: str, folder: str = "annotations") -> Path:
    image(root / "VOC_Format" / "JPEGImages" / "s.bmp")
    text(root / "VOC_Format" / "ImageSets" / "train.txt", "s.bmp\n")
    text(root / "VOC_Format" / folder / "s.xml", f"<annotation>\n{''.join(objects)}</annotation>")
    return root


@pytest.mark.parametrize("folder", ["annotations", "Annotations"])
def test_the_quadrilateral_of_a_single_object(tmp_path: Path, folder: str) -> None:
    dataset = open_dataset(make(tmp_path, thing(), folder=folder), "train")
    assert dataset.quads.reshape(-1).tolist() == list(QUAD)
    assert dataset.classes == ("Cargo",)


def test_every_class_of_every_level_by_its_number(tmp_path: Path) -> None:
    """Numbers count from 1; level 3 goes by the name."""
    assert [len(names) for names in LEVELS] == [2, 4, 25, 50]
    for level, names in enumerate(LEVELS):
        things = []
        for number, name in enumerate(names, start=1):
            numbers = [number if k == level else 1 for k in range(4)]
            things.append(thing(name if level == 3 else "Cargo", tuple(numbers)))
        root = make(tmp_path / str(level), *things)
        form = "shiprsimagenet" if level == 3 else f"shiprsimagenet_level{level}"
        dataset = open_dataset(root, "train", form=form)
        assert (dataset.format, dataset.classes) == (form, names)
        assert dataset.labels.tolist() == list(range(len(names)))


@pytest.mark.parametrize("number", [0, 5, "", "x", "-1", "1.0", "²", "9999"])
def test_a_number_that_no_class_has(tmp_path: Path, number: object) -> None:
    make(tmp_path, thing(), thing(levels=(1, number, 15, 40)))
    with pytest.raises(DataError, match=rf"s\.xml:4: level_1 is '{number}': write the number .*, 1 to 4"):
        open_dataset(tmp_path, "train", form="shiprsimagenet_level1")
    assert len(open_dataset(tmp_path, "train").labels) == 2, "the others do not suffer"


def test_a_bad_object_is_named_by_file_and_line(tmp_path: Path) -> None:
    make(tmp_path, thing(), thing(quad=QUAD[:7]), thing(quad=("a", *QUAD[1:])))
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path, "train")
    _, *lines = str(caught.value).split("\n")
    assert [line.split("s.xml:")[1].split(":")[0] for line in lines] == ["4", "6"]
    assert "polygon lacks y4" in lines[0]


def test_its_coco_files(tmp_path: Path) -> None:
    """One flat list of corners, images in another folder: the form coco reads it, and only when asked."""
    shiprsimagenet(tmp_path)
    content = {
        "images": [{"id": 7, "file_name": "a1.bmp", "width": 96, "height": 64}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 2, "segmentation": QUAD, "bbox": [40, 11, 30, 27]}],
        "categories": [{"id": 1, "name": "Ship"}, {"id": 2, "name": "Dock"}],
    }
    text(tmp_path / "COCO_Format" / "ShipRSImageNet_bbox_train_level_0.json", json.dumps(content))
    assert open_dataset(tmp_path, "train").format == "shiprsimagenet"
    dataset = open_dataset(tmp_path, "ShipRSImageNet_bbox_train_level_0", form="coco")
    assert (dataset.classes, dataset.labels.tolist()) == (("Ship", "Dock"), [1])
    assert dataset.quads.reshape(-1).tolist() == list(QUAD)


# Level 2 and the classes of level 3 in it, written out; all others of level 2 have one, of their own name.
FAMILIES = {
    "Aircraft Carrier": "Other Aircraft Carrier, Enterprise, Nimitz, Midway",
    "Cruiser": "Ticonderoga",
    "Destroyer": "Other Destroyer, Atago DD, Arleigh Burke DD, Hatsuyuki DD, Hyuga DD, Asagiri DD",
    "Frigate": "Other Frigate, Perry FF",
    "Landing": (
        "Other Landing, YuTing LL, YuDeng LL, YuDao LL, YuZhao LL, Austin LL, Osumi LL, Wasp LL, LSD 41 LL, LHA LL"
    ),
    "Auxiliary Ships": (
        "Other Auxiliary Ship, Medical Ship, Test Ship, Training Ship, AOE, Masyuu AS, Sanantonio AS, EPF"
    ),
}
MERCHANTS = (
    *("Other Merchant", "Container Ship", "RoRo", "Cargo", "Barge", "Tugboat", "Ferry", "Yacht", "Sailboat"),
    *("Fishing Vessel", "Oil Tanker", "Hovercraft", "Motorboat"),
)


def test_the_family_of_every_ship() -> None:
    family = {name: parent for parent, names in FAMILIES.items() for name in names.split(", ")}
    for number, name in enumerate(LEVELS[3], start=1):
        parent = family.get(name, name)
        kind = "Merchant" if parent in MERCHANTS else parent if parent in ("Dock", "Other Ship") else "Warship"
        numbers = level_numbers(number)
        found = [names[k - 1] for names, k in zip(LEVELS, numbers, strict=True)]
        assert found == ["Dock" if kind == "Dock" else "Ship", kind, parent, name]
    assert level_numbers(40) == (1, 3, 15, 40)
