"""The same small scenes written down in every format that fledge reads, in each format's own folders.

Nothing here imports fledge: corners, fractions and file layouts are worked out on their own. ``public_sets`` has the
writers of further public datasets.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.data import public_sets
from tests.data.public_sets import fair1m, shiprsimagenet
from tests.data.scenes import HEIGHT, SCENES, WIDTH, Scenes, Thing, corners_of, flat, image, text, upright

__all__ = [
    "CLASSES",
    "HEIGHT",
    "LABELS",
    "MINIATURES",
    "SCENES",
    "WIDTH",
    "Thing",
    "corners_of",
    "fair1m",
    "flat",
    "image",
    "shiprsimagenet",
    "text",
]


def dota(root: Path) -> None:
    for split, scenes in SCENES.items():
        for stem, things in scenes.items():
            image(root / split / "images" / f"{stem}.png")
            lines = [f"{' '.join(map(str, flat(t)))} {('plane', 'ship')[t.label]} {int(t.difficult)}" for t in things]
            text(root / split / "labelTxt" / f"{stem}.txt", "\n".join(["imagesource:GoogleEarth", "gsd:0.3", *lines]))


def _fractions(thing: Thing) -> str:
    sides = (WIDTH, HEIGHT)
    return " ".join(f"{value / sides[k % 2]:.9f}" for k, value in enumerate(flat(thing)))


def yolo_obb(root: Path) -> None:
    text(root / "data.yaml", "path: .\ntrain: images/train\nval: images/val\nnc: 2\nnames:\n  0: plane\n  1: ship\n")
    for split, scenes in SCENES.items():
        for stem, things in scenes.items():
            image(root / "images" / split / f"{stem}.jpg")
            text(root / "labels" / split / f"{stem}.txt", "\n".join(f"{t.label} {_fractions(t)}" for t in things))


def _json(split: str, file_key: str, names: list[str], annotation: Callable[[Thing], dict[str, Any]]) -> str:
    scenes = SCENES[split]
    suffix_of = {stem: f"{stem}.jpg" for stem in scenes}
    images = [
        {"id": 10 + k, file_key: suffix_of[stem], "width": WIDTH, "height": HEIGHT} for k, stem in enumerate(scenes)
    ]
    owners = [(10 + k, thing) for k, things in enumerate(scenes.values()) for thing in things]
    annotations = [
        {"id": 100 + k, "image_id": owner, "category_id": 1 + thing.label, **annotation(thing)}
        for k, (owner, thing) in enumerate(owners)
    ]
    categories = [{"id": 1 + k, "name": name, "supercategory": "none"} for k, name in enumerate(names)]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories})


def coco(root: Path) -> None:
    def annotation(thing: Thing) -> dict[str, Any]:
        x, y = flat(thing)[::2], flat(thing)[1::2]
        hull = [min(x), min(y), max(x) - min(x), max(y) - min(y)]
        return {"segmentation": [flat(thing)], "bbox": hull, "area": thing.w * thing.h, "iscrowd": 0}

    for split, scenes in SCENES.items():
        for stem in scenes:
            image(root / split / f"{stem}.jpg")
        text(root / "annotations" / f"instances_{split}.json", _json(split, "file_name", ["plane", "ship"], annotation))


def hit_uav(root: Path) -> None:
    def annotation(thing: Thing) -> dict[str, Any]:
        return {"bbox": [thing.cx, thing.cy, thing.w, thing.h, thing.angle], "difficult": thing.difficult}

    for split, scenes in SCENES.items():
        for stem in scenes:
            image(root / "rotate_json" / split / f"{stem}.jpg")
        content = _json(split, "filename", ["Car", "Person", "DontCare"], annotation)
        text(root / "rotate_json" / "annotations" / f"{split}.json", content)


def _voc(stem: str, objects: str) -> str:
    return (
        f"<annotation>\n<filename>{stem}</filename><source><owner><name>nobody</name></owner></source>\n"
        f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>\n{objects}</annotation>\n"
    )


def _object(name: str, thing: Thing, box: dict[str, float]) -> str:
    tags = "".join(f"<{tag}>{value}</{tag}>" for tag, value in box.items())
    flag = int(thing.difficult)
    return f"<object><name>{name}</name><difficult>{flag}</difficult>\n<robndbox>{tags}</robndbox></object>\n"


def _centre_form(thing: Thing, prefix: str = "", angle: str = "angle") -> dict[str, float]:
    values = (thing.cx, thing.cy, thing.w, thing.h, thing.angle)
    return dict(zip([f"{prefix}{tag}" for tag in ("cx", "cy", "w", "h", angle)], values, strict=True))


def hit_uav_xml(root: Path) -> None:
    base = root / "rotate_xml"
    for split, scenes in SCENES.items():
        text(base / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{stem}\n" for stem in scenes))
        for stem, things in scenes.items():
            image(base / "JPEGImages" / f"{stem}.jpg")
            objects = "".join(_object(("Car", "Person")[t.label], t, _centre_form(t)) for t in things)
            text(base / "Annotations" / f"{stem}.xml", _voc(stem, objects))


DIOR_CORNERS = ("left_top", "right_top", "right_bottom", "left_bottom")


def dior_r(root: Path) -> None:
    for split, scenes in SCENES.items():
        text(root / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{stem}\n" for stem in scenes))
        for stem, things in scenes.items():
            image(root / ("JPEGImages-test" if split == "test" else "JPEGImages-trainval") / f"{stem}.jpg")
            objects = ""
            for thing in things:
                box: dict[str, float] = {}
                for corner, (x, y) in zip(DIOR_CORNERS, corners_of(thing), strict=True):
                    box |= {f"x_{corner}": x, f"y_{corner}": y}
                objects += _object(("airplane", "Expressway-Service-area")[thing.label], thing, box)
            text(root / "Annotations" / "Oriented Bounding Boxes" / f"{stem}.xml", _voc(f"{stem}.jpg", objects))
            text(root / "Annotations" / "Horizontal Bounding Boxes" / f"{stem}.xml", _voc(f"{stem}.jpg", ""))


def hrsc2016(root: Path) -> None:
    lists = {**{split: list(scenes) for split, scenes in SCENES.items()}, "trainval": ["a1", "a2", "a3", "b1", "b2"]}
    for split, stems in lists.items():
        text(root / "ImageSets" / f"{split}.txt", "".join(f"{stem}\n" for stem in stems))
    image(root / "FullDataSet" / "AllImages" / "unlisted.bmp")
    for scenes in SCENES.values():
        for stem, things in scenes.items():
            image(root / "FullDataSet" / "AllImages" / f"{stem}.bmp")
            objects = ""
            for thing in things:
                tags = {
                    "Class_ID": 100000001 + 4 * thing.label,
                    "truncated": 0,
                    "difficult": int(thing.difficult),
                    "box_xmin": 1,
                }
                tags |= _centre_form(thing, "mbox_", "ang")  # type: ignore[arg-type]
                inner = "".join(f"<{tag}>{value}</{tag}>" for tag, value in tags.items())
                objects += f"<HRSC_Object>\n{inner}</HRSC_Object>\n"
            head = f"<Img_SizeWidth>{WIDTH}</Img_SizeWidth>\n<Img_SizeHeight>{HEIGHT}</Img_SizeHeight>\n"
            text(
                root / "FullDataSet" / "Annotations" / f"{stem}.xml",
                f"<HRSC_Image>{head}<HRSC_Objects>\n{objects}</HRSC_Objects></HRSC_Image>\n",
            )


MINIATURES: dict[str, Callable[[Path], None]] = {
    "dota": dota,
    "dota_hbb": dota,
    "hit_uav": hit_uav,
    "hit_uav_xml": hit_uav_xml,
    "dior_r": dior_r,
    "hrsc2016": hrsc2016,
    "hrsc2016_types": hrsc2016,
    "coco": coco,
    "yolo_obb": yolo_obb,
    **public_sets.MINIATURES,
}
"""The key of a format to the writer of its miniature: splits train, val and test."""

CLASSES: dict[str, tuple[str, ...]] = {
    "hit_uav": ("Person", "Car", "Bicycle", "OtherVehicle"),
    "hit_uav_xml": ("Person", "Car"),
    "dior_r": ("airplane", "Expressway-Service-area"),
    "hrsc2016": ("ship",),
    "hrsc2016_types": ("ship", "Nimitz"),
    **public_sets.CLASSES,
}
"""The class names of each miniature in label order, where they are not plane and ship."""

LABELS: dict[str, tuple[int, int]] = {
    "hit_uav": (1, 0),
    "hit_uav_xml": (1, 0),
    "hrsc2016": (0, 0),
    **public_sets.LABELS,
}
"""What the two class numbers of the scenes become, where it is not (0, 1)."""

NO_DIFFICULT = {"yolo_obb", "coco", "fair1m", "nwpu_vhr10", "ucas_aod"}
"""Formats whose miniature says nothing of difficult objects."""

SECOND = {
    "dota_hbb": "dota",
    "hrsc2016_types": "hrsc2016",
    "shiprsimagenet_level0": "shiprsimagenet",
    "shiprsimagenet_level1": "shiprsimagenet",
    "shiprsimagenet_level2": "shiprsimagenet",
}
"""Formats whose folders are another's, and which that is: these must be named to be read."""


def classes_of(form: str) -> tuple[str, ...]:
    """The class names of a miniature in label order."""
    return CLASSES.get(form, ("plane", "ship"))


def scenes_of(form: str) -> Scenes:
    """What a miniature shows, by split and the name of the image, as far as the format can say it."""
    return upright(SCENES) if form == "dota_hbb" else public_sets.SCENES_OF.get(form, SCENES)
