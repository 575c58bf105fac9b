"""Miniatures of further public datasets, each in its own folders and form. Nothing here imports fledge."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from tests.data.scenes import HEIGHT, SCENES, WIDTH, Scenes, Thing, corners_of, flat, hull_of, image, text, upright

UPRIGHT = upright(SCENES)


def _tags(values: dict[str, object]) -> str:
    return "".join(f"<{tag}>{value}</{tag}>" for tag, value in values.items())


def _bndbox(thing: Thing) -> str:
    return f"<bndbox>{_tags(dict(zip(('xmin', 'ymin', 'xmax', 'ymax'), hull_of(thing), strict=True)))}</bndbox>"


def _corner_tags(thing: Thing) -> str:
    return _tags(
        {f"{axis}{k + 1}": corner["xy".index(axis)] for k, corner in enumerate(corners_of(thing)) for axis in "xy"}
    )


def _object(name: str, thing: Thing, inner: str) -> str:
    return f"<object><name>{name}</name><difficult>{int(thing.difficult)}</difficult>\n{inner}</object>\n"


def _voc(things: list[Thing], names: tuple[str, str], inner: Callable[[Thing], str], extra: str = "") -> str:
    objects = "".join(_object(names[thing.label], thing, inner(thing)) for thing in things)
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
    owner = "<source><owner><name>nobody</name></owner></source>"
    return f"<annotation>\n{owner}{extra}{size}\n{objects}</annotation>\n"


def _lists(folder: Path, suffix: str = "") -> None:
    for split, scenes in SCENES.items():
        text(folder / f"{split}.txt", "".join(f"{stem}{suffix}\n" for stem in scenes))


def _everything() -> list[tuple[str, str, list[Thing]]]:
    return [(split, stem, things) for split, scenes in SCENES.items() for stem, things in scenes.items()]


def voc(root: Path) -> None:
    """In the folders of SAR-AIRcraft-1.0."""
    _lists(root / "ImageSets" / "Main")
    for _, stem, things in _everything():
        image(root / "JPEGImages" / f"{stem}.jpg")
        text(root / "Annotations" / f"{stem}.xml", _voc(things, ("A220", "A320/321"), _bndbox))


def dior(root: Path) -> None:
    _lists(root / "ImageSets" / "Main")
    for split, stem, things in _everything():
        image(root / ("JPEGImages-test" if split == "test" else "JPEGImages-trainval") / f"{stem}.jpg")
        content = _voc(things, ("dam", "Expressway-toll-station"), _bndbox)
        text(root / "Annotations" / "Horizontal Bounding Boxes" / f"{stem}.xml", content)


def hrrsd(root: Path) -> None:
    _lists(root / "OPT2017" / "ImageSets" / "Main")
    for _, stem, things in _everything():
        image(root / "OPT2017" / "JPEGImages" / f"{stem}.jpg")
        text(root / "OPT2017" / "Annotations" / f"{stem}.xml", _voc(things, ("T junction", "ship"), _bndbox))


def ohd_sjtu(root: Path) -> None:
    for split, stem, things in _everything():
        image(root / split / "images" / f"{stem}.jpg")
        lines = []
        for thing in things:
            (x1, y1), (x2, y2), *_ = corners_of(thing)
            head = f"{(x1 + x2) / 2} {(y1 + y2) / 2}"
            lines.append(
                f"{' '.join(map(str, flat(thing)))} {head} {('plane', 'ship')[thing.label]} {int(thing.difficult)}"
            )
        text(root / split / "rotation_txt" / f"{stem}.txt", "\n".join(lines))


def fair1m(root: Path) -> None:
    names = ("Dry Cargo Ship", "other-vehicle")
    for split, stem, things in _everything():
        part = root / split / {"a1": "part1", "a2": "part1", "a3": "part2"}.get(stem, ".")
        image(part / "images" / f"{stem}.tif")
        objects = ""
        for thing in things:
            corners = corners_of(thing)
            points = "".join(f"<point>{x},{y}</point>" for x, y in [*corners, corners[0]])
            result = f"<possibleresult><name>{names[thing.label]}</name></possibleresult>"
            objects += f"<object><coordinate>pixel</coordinate>{result}\n<points>{points}</points></object>\n"
        head = f"<source><filename>{stem}.tif</filename></source>"
        text(part / "labelXml" / f"{stem}.xml", f"<annotation>{head}\n<objects>\n{objects}</objects></annotation>")


def shiprsimagenet(root: Path) -> None:
    """A cargo ship and a dock: numbers 15 and 25 of level 2, and so on."""
    numbers = ((1, 3, 15, 40), (2, 4, 25, 50))
    base = root / "VOC_Format"
    _lists(base / "ImageSets", ".bmp")

    def inner(thing: Thing) -> str:
        levels = _tags({f"level_{k}": number for k, number in enumerate(numbers[thing.label])})
        return f"{levels}{_bndbox(thing)}<polygon>{_corner_tags(thing)}</polygon>"

    for _, stem, things in _everything():
        image(base / "JPEGImages" / f"{stem}.bmp")
        text(base / "annotations" / f"{stem}.xml", _voc(things, ("Cargo", "Dock"), inner))


def ssdd(root: Path) -> None:
    base = root / "RBox_SSDD" / "voc_style"

    def inner(thing: Thing) -> str:
        wrong = _tags({f"rotated_bbox_{tag}": 1 for tag in ("cx", "cy", "w", "h", "theta")})
        return f"{_bndbox(thing)}<rotated_bndbox>{wrong}{_corner_tags(thing)}</rotated_bndbox>"

    for split, stem, things in _everything():
        image(base / "JPEGImages" / f"{stem}.jpg")
        text(base / f"Annotations_{split}" / f"{stem}.xml", _voc(things, ("ship", "ship"), inner))


def rsdd(root: Path) -> None:
    """``h`` is the long side, and the angle is that of ``h``."""

    def inner(thing: Thing) -> str:
        long, short, turn = thing.w, thing.h, thing.angle
        if long < short:
            long, short, turn = short, long, turn - np.pi / 2
        box = _tags({"cx": thing.cx, "cy": thing.cy, "h": long, "w": short, "angle": turn})
        return f"<robndbox>{box}</robndbox>"

    for split, scenes in SCENES.items():
        images = [{"id": k, "file_name": f"{stem}.jpg"} for k, stem in enumerate(scenes)]
        text(root / "ImageSets" / f"{split}.json", json.dumps({"images": images, "annotations": [], "categories": []}))
    for _, stem, things in _everything():
        image(root / "JPEGImages" / f"{stem}.jpg")
        content = _voc(things, ("ship", "ship"), inner, "<polarization>HH</polarization>")
        text(root / "Annotations" / f"{stem}.xml", content)


def _of_rsdd() -> Scenes:
    """The same boxes, with their first corner as the long side counts."""
    turned = {True: lambda t: t, False: lambda t: t._replace(w=t.h, h=t.w, angle=t.angle - np.pi / 2)}
    return {
        split: {stem: [turned[t.w >= t.h](t) for t in things] for stem, things in scenes.items()}
        for split, scenes in SCENES.items()
    }


VHR10_SCENES: Scenes = {
    split: {(stem if things else f"negative_{stem}"): things for stem, things in scenes.items()}
    for split, scenes in upright(SCENES, whole=True).items()
}


def nwpu_vhr10(root: Path) -> None:
    """Airplanes and ships, numbers 1 and 2; images without objects lie in a folder of their own."""
    for split, scenes in VHR10_SCENES.items():
        text(root / "ImageSets" / f"{split}.txt", "\n".join(scenes))
        for stem, things in scenes.items():
            if not things:
                image(root / "negative image set" / f"{stem.removeprefix('negative_')}.jpg")
                continue
            image(root / "positive image set" / f"{stem}.jpg")
            boxes = [(*(round(v) for v in hull_of(thing)), thing.label + 1) for thing in things]
            lines = [f"({x1},{y1}),( {x2},{y2}),{number} " for x1, y1, x2, y2, number in boxes]
            text(root / "ground truth" / f"{stem}.txt", "\r\n".join(lines))


def _only(label: int, things: list[Thing]) -> list[Thing]:
    return [thing._replace(label=label) for thing in things]


UCAS_SCENES: Scenes = {
    "train": {
        "P0001": _only(0, SCENES["train"]["a1"]),
        "Neg_P0001": [],
        "P0511": _only(1, SCENES["train"]["a3"]),
    },
    "val": {"P0002": _only(0, SCENES["val"]["b1"]), "Neg_P0002": []},
    "test": {"P0512": _only(1, SCENES["test"]["c1"])},
}


def ucas_aod(root: Path) -> None:
    files = {"P0001": "CAR/P0001", "P0002": "CAR/P0002", "P0511": "PLANE/P0001", "P0512": "PLANE/P0002"}
    files |= {"Neg_P0001": "Neg/P0001", "Neg_P0002": "Neg/P0002"}
    for split, scenes in UCAS_SCENES.items():
        text(root / "ImageSets" / f"{split}.txt", "\n".join(scenes))
        for name, things in scenes.items():
            image(root / f"{files[name]}.png")
            if things:
                rows = [[*flat(t), np.rad2deg(t.angle), *hull_of(t)[:2], 9.0, 9.0] for t in things]
                lines = ["\t".join(f"{value:.9e}" for value in row) for row in rows]
                text(root / f"{files[name]}.txt", "\n".join(lines))


# Pixels of about 1.1 m in a place of round coordinates, north up.
GEO_TRANSFORM = Affine(1e-5, 0.0, 12.5, 0.0, -1e-5, 41.5)


def geo_image(path: Path, width: int = WIDTH, crs: str = "EPSG:4326", transform: Affine = GEO_TRANSFORM) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (3, HEIGHT, width), dtype=np.uint8)
    layout = {"driver": "GTiff", "count": 3, "height": HEIGHT, "width": width, "dtype": "uint8"}
    with rasterio.open(path, "w", crs=crs, transform=transform, **layout) as file:
        file.write(pixels)


def geo_feature(thing: Thing, names: tuple[str, str] = ("plane", "ship"), **more: object) -> dict[str, object]:
    """A GeoJSON feature, its ring closed."""
    t = GEO_TRANSFORM
    ring = [(t.a * x + t.b * y + t.c, t.d * x + t.e * y + t.f) for x, y in corners_of(thing)]
    properties = {"class": names[thing.label], "difficult": thing.difficult, **more}
    geometry = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def geo(root: Path) -> None:
    for split, stem, things in _everything():
        geo_image(root / split / "images" / f"{stem}.tif")
        content = {"type": "FeatureCollection", "features": list(map(geo_feature, things))}
        text(root / split / "labels" / f"{stem}.geojson", json.dumps(content))


MINIATURES: dict[str, Callable[[Path], None]] = {
    "ohd_sjtu": ohd_sjtu,
    "fair1m": fair1m,
    "nwpu_vhr10": nwpu_vhr10,
    "ucas_aod": ucas_aod,
    "ssdd": ssdd,
    "rsdd": rsdd,
    "shiprsimagenet": shiprsimagenet,
    "shiprsimagenet_level0": shiprsimagenet,
    "shiprsimagenet_level1": shiprsimagenet,
    "shiprsimagenet_level2": shiprsimagenet,
    "dior": dior,
    "hrrsd": hrrsd,
    "voc": voc,
    "geo": geo,
}

CLASSES: dict[str, tuple[str, ...]] = {
    "ohd_sjtu": ("ship", "plane"),
    "fair1m": ("Dry Cargo Ship", "other-vehicle"),
    "nwpu_vhr10": (
        *("airplane", "ship", "storage tank", "baseball diamond", "tennis court", "basketball court"),
        *("ground track field", "harbor", "bridge", "vehicle"),
    ),
    "ucas_aod": ("car", "airplane"),
    "ssdd": ("ship",),
    "rsdd": ("ship",),
    "shiprsimagenet": ("Cargo", "Dock"),
    "shiprsimagenet_level0": ("Ship", "Dock"),
    "shiprsimagenet_level1": ("Merchant", "Dock"),
    "shiprsimagenet_level2": ("Cargo", "Dock"),
    "dior": ("Expressway-toll-station", "dam"),
    "hrrsd": ("ship", "T junction"),
    "voc": ("A220", "A320/321"),
}

LABELS: dict[str, tuple[int, int]] = {
    "ohd_sjtu": (1, 0),
    "ssdd": (0, 0),
    "rsdd": (0, 0),
    "dior": (1, 0),
    "hrrsd": (1, 0),
}

SCENES_OF: dict[str, Scenes] = {
    "dior": UPRIGHT,
    "hrrsd": UPRIGHT,
    "voc": UPRIGHT,
    "rsdd": _of_rsdd(),
    "nwpu_vhr10": VHR10_SCENES,
    "ucas_aod": UCAS_SCENES,
    "fair1m": {
        split: {
            {"a1": "part1_a1", "a2": "part1_a2", "a3": "part2_a3"}.get(stem, stem): things
            for stem, things in scenes.items()
        }
        for split, scenes in SCENES.items()
    },
}
