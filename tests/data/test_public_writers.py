"""Labels written in the forms of public datasets: what the files say, what was lost, and that it is said."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any
from unittest import mock
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely.geometry import Polygon
from tests.data.made import dota_folder, line, noise, rectangle
from tests.data.miniatures import MINIATURES, scenes_of

from fledge.data.conversion import convert_dataset
from fledge.data.datasets import detect_format, open_dataset
from fledge.data.labels import DetectionDataset
from fledge.data.staging import place
from fledge.data.tile_folder import Writing, tile_dataset
from fledge.data.tiling import Cut
from fledge.errors import DataError

PUBLIC = ("ohd_sjtu", "hrsc2016", "shiprsimagenet", "ssdd", "rsdd", "nwpu_vhr10", "ucas_aod")
# The class of a ship, or the like, in each form, and one that those with a fixed list do not have.
NAMES = {"hrsc2016": "warcraft", "shiprsimagenet": "Cargo", "nwpu_vhr10": "ship", "ucas_aod": "car"}
FIXED = tuple(NAMES)
KITE: list[list[float]] = [[10, 20], [30, 12], [52.5, 22], [31, 40.25]]
SHIP = rectangle(60, 40, 31.25, 10, 130)
EDGE = rectangle(4, 50, 20, 8, 10)
TOP: list[list[float]] = [[40, 3], [70, 9], [80, 20], [44, 16]]
HEAD = "head point not known, set to the middle of corners 1 and 2"
ROUNDED = "quadrilateral, now the rectangle of least area around it"


def source(root: Path, name: str, stems: tuple[str, str] = ("b", "a")) -> Path:
    """A split of an image with objects and one without, and another split."""
    text = line(KITE, name, 1) + line(TOP, "helicopter") + line(EDGE, name)
    scenes = {stems[0]: (noise(64, 96), text), stems[1]: (noise(80, 80, 1), "")}
    return dota_folder(root, {"train": scenes, "test": {"d": (noise(64, 96, 2), line(EDGE, name))}})


def rows_of(dataset: DetectionDataset, name: str) -> slice:
    i = dataset.ids.index(name)
    return slice(int(dataset.offsets[i]), int(dataset.offsets[i + 1]))


def overlap(one: NDArray[Any], two: NDArray[Any]) -> float:
    a, b = Polygon(one), Polygon(two)
    return float(a.intersection(b).area / a.union(b).area)


def tree(path: Path) -> ElementTree.Element:
    return ElementTree.parse(path).getroot()


def values(element: ElementTree.Element | None) -> dict[str, str]:
    assert element is not None
    return {child.tag: child.text or "" for child in element if not len(child)}


@pytest.mark.parametrize("form", PUBLIC)
def test_a_public_set_comes_back_as_it_was(tmp_path: Path, form: str) -> None:
    """Every split of a miniature, written in its own form: same images, names, classes, corners, labels and flags."""
    MINIATURES[form](tmp_path / "one")
    report = convert_dataset(tmp_path / "one", tmp_path / "two", form)
    assert report.lost == ({HEAD: 7} if form == "ohd_sjtu" else {})
    assert detect_format(tmp_path / "two") == form
    for split, scenes in scenes_of(form).items():
        before, after = open_dataset(tmp_path / "one", split), open_dataset(tmp_path / "two", split)
        assert set(after.ids) == set(scenes)
        assert (before.ids, before.classes) == (after.ids, after.classes)
        for field in ("labels", "difficult", "ignore", "offsets", "sizes"):
            assert np.array_equal(getattr(before, field), getattr(after, field)), field
        off = 6e-3 if form == "ohd_sjtu" else 1e-5
        if form in ("hrsc2016", "rsdd"):  # boxes: the first corner is that of the long side
            assert all(overlap(a, b) > 1 - 1e-5 for a, b in zip(before.quads, after.quads, strict=True))
        else:
            assert np.abs(before.quads - after.quads).max() <= off
        turn = np.abs(before.boxes[:, 4] - after.boxes[:, 4])
        assert np.minimum(turn, np.pi - turn).max() < (2e-3 if form == "ohd_sjtu" else 1e-5)
        assert np.abs(before.boxes[:, :4] - after.boxes[:, :4]).max() <= 2 * off
        for one, two in zip(before.paths, after.paths, strict=True):
            assert one.read_bytes() == two.read_bytes()
            assert one.name == two.name


@pytest.mark.parametrize("form", [f"shiprsimagenet_level{level}" for level in range(3)])
def test_coarser_levels_come_back(tmp_path: Path, form: str) -> None:
    MINIATURES[form](tmp_path / "one")
    convert_dataset(tmp_path / "one", tmp_path / "two", "shiprsimagenet")
    before, after = (open_dataset(tmp_path / name, "train", form=form) for name in ("one", "two"))
    assert before.classes == after.classes
    assert before.labels.tolist() == after.labels.tolist()


def test_types_of_ships_come_back(tmp_path: Path) -> None:
    """Read as ships, they are ships; read by type, written by type."""
    MINIATURES["hrsc2016"](tmp_path / "one")
    convert_dataset(tmp_path / "one", tmp_path / "typed", "hrsc2016", form="hrsc2016_types")
    convert_dataset(tmp_path / "one", tmp_path / "ships", "hrsc2016")
    before = open_dataset(tmp_path / "one", "train", form="hrsc2016_types")
    after = open_dataset(tmp_path / "typed", "train", form="hrsc2016_types")
    assert (after.classes, after.labels.tolist()) == (("ship", "Nimitz"), before.labels.tolist())
    assert open_dataset(tmp_path / "typed", "train").classes == ("ship",)
    assert open_dataset(tmp_path / "ships", "train", form="hrsc2016_types").classes == ("ship",)


@pytest.mark.parametrize("form", PUBLIC)
@pytest.mark.parametrize("stems", [("b", "a"), ("Hafen Süd 1.2", "空 (2)")])
def test_from_dota(tmp_path: Path, form: str, stems: tuple[str, str]) -> None:
    """Corners that are no rectangle, a box beyond the edge, a difficult object, an image without any, names of images
    with blanks, points and letters of other scripts, and a class that fixed lists do not have."""
    name = NAMES.get(form, "ship")
    report = convert_dataset(source(tmp_path / "dota", name, stems), tmp_path / "out", form)
    before, after = open_dataset(tmp_path / "dota", "train"), open_dataset(tmp_path / "out", "train")
    assert detect_format(tmp_path / "out") == form
    empty = {"nwpu_vhr10": f"negative_{stems[1]}", "ucas_aod": f"Neg_{stems[1]}"}.get(form, stems[1])
    assert set(after.ids) == {stems[0], empty}
    assert open_dataset(tmp_path / "out", "test").ids == ("d",)
    rows = rows_of(after, stems[0])
    assert rows_of(after, empty).start == rows_of(after, empty).stop
    kept = [0, 2] if form in FIXED else [0, 1, 2]
    read_as = {"hrsc2016": "ship"}.get(form, name)
    found = [after.classes[label] for label in after.labels[rows]]
    assert found == [read_as, read_as] if form in FIXED else [name, "helicopter", name]
    meant = before.quads[rows_of(before, stems[0])][kept].astype(np.float64)
    for quad, quad2 in zip(meant, after.quads[rows], strict=True):
        if form == "nwpu_vhr10":
            assert np.abs(np.array(Polygon(quad).bounds) - Polygon(quad2).bounds).max() <= 0.5
        elif form in ("hrsc2016", "rsdd"):
            assert overlap(np.array(Polygon(quad).minimum_rotated_rectangle.exterior.coords), quad2) > 0.999
        else:
            assert np.abs(quad - quad2).max() <= (1e-2 if form == "ohd_sjtu" else 1e-4)
    flags = [False] * len(kept) if form in ("nwpu_vhr10", "ucas_aod") else [True, *[False] * (len(kept) - 1)]
    assert after.difficult[rows].tolist() == flags
    unknown = {f"object of class helicopter, left out: {form} has no such class": 1} if form in FIXED else {}
    plain = {"difficult object, now a plain one": 1}
    more = {
        "ohd_sjtu": {HEAD: 4},
        "hrsc2016": {ROUNDED: 1},
        "rsdd": {ROUNDED: 2},
        "nwpu_vhr10": {
            **plain,
            "turned box, now the upright one around it": 3,
            "box rounded to whole pixels": 3,
            "image without objects, now called negative_ and its name": 1,
        },
        "ucas_aod": {**plain, "image with another name, as the folder is part of it": 1},
    }
    assert report.lost == {**unknown, **more.get(form, {})}


@pytest.mark.parametrize("form", FIXED)
def test_a_dataset_of_other_classes_is_refused_and_renaming_helps(tmp_path: Path, form: str) -> None:
    root = source(tmp_path / "dota", "rowing-boat")
    with pytest.raises(DataError, match=rf"no object can be written: {root}: .* helicopter, rowing-boat; {form} has"):
        convert_dataset(root, tmp_path / "out", form)
    with pytest.raises(DataError, match="no object can be written"):
        tile_dataset(root, tmp_path / "out", Cut(64, 16), writing=Writing(form))
    assert not list(tmp_path.glob("out*"))
    report = convert_dataset(root, tmp_path / "out", form, remap={"rowing boat": NAMES[form], "helicopter": ""})
    assert report.lost["ignored object, left out"] == 1
    assert len(open_dataset(tmp_path / "out", "train").labels) == 2
    with pytest.raises(Exception, match="output exists"):
        convert_dataset(root, tmp_path / "out", form, remap={"rowing boat": NAMES[form]})


@pytest.mark.parametrize("form", FIXED)
def test_classes_without_an_object(tmp_path: Path, form: str) -> None:
    """Those of a fixed list are there all the same, where all of it is read."""
    convert_dataset(source(tmp_path / "dota", NAMES[form]), tmp_path / "yolo", "yolo_obb")
    names = tmp_path / "yolo" / "data.yaml"
    more = {"hrsc2016": "yacht", "shiprsimagenet": "Ferry", "nwpu_vhr10": "Bridge", "ucas_aod": "Airplane"}[form]
    names.write_text(names.read_text() + f'  2: "{more}"\n  3: "windmill"\n')
    lost = convert_dataset(tmp_path / "yolo", tmp_path / "out", form).lost
    assert lost["class without an object, left out"] == (1 if form in ("nwpu_vhr10", "ucas_aod") else 2)


@pytest.mark.parametrize("form", ["ohd_sjtu", "ssdd", "rsdd"])
def test_class_names_with_blanks_and_slashes(tmp_path: Path, form: str) -> None:
    MINIATURES["voc"](tmp_path / "one")
    report = convert_dataset(tmp_path / "one", tmp_path / "two", form, remap={"A220": "big jet"})
    classes = open_dataset(tmp_path / "two", "train").classes
    assert classes == ("A320/321", "big-jet" if form == "ohd_sjtu" else "big jet")
    assert ("class name with spaces, now hyphens" in report.lost) == (form == "ohd_sjtu")


def test_the_head_is_between_the_first_two_corners(tmp_path: Path) -> None:
    """The file as its authors lay it out: eight coordinates, the head point, class, difficult."""
    convert_dataset(source(tmp_path / "dota", "plane"), tmp_path / "out", "ohd_sjtu")
    lines = (tmp_path / "out" / "train" / "rotation_txt" / "b.txt").read_text().splitlines()
    assert lines[0] == "10.00 20.00 30.00 12.00 52.50 22.00 31.00 40.25 20.00 16.00 plane 1"
    assert (tmp_path / "out" / "train" / "rotation_txt" / "a.txt").read_text() == ""


def test_a_ship_of_hrsc2016(tmp_path: Path) -> None:
    convert_dataset(source(tmp_path / "dota", "warcraft"), tmp_path / "out", "hrsc2016")
    root = tree(tmp_path / "out" / "FullDataSet" / "Annotations" / "b.xml")
    assert (root.tag, values(root)) == ("HRSC_Image", {"Img_ID": "b", "Img_SizeWidth": "96", "Img_SizeHeight": "64"})
    kite, edge = root.findall("HRSC_Objects/HRSC_Object")
    assert (values(kite)["Class_ID"], values(kite)["difficult"]) == ("100000003", "1")
    assert [values(kite)[f"box_{tag}"] for tag in ("xmin", "ymin", "xmax", "ymax")] == ["10", "12", "52.5", "40.25"]
    box = [float(values(edge)[f"mbox_{tag}"]) for tag in ("cx", "cy", "w", "h", "ang")]
    assert box == pytest.approx([4, 50, 20, 8, np.deg2rad(10)], abs=1e-2)
    assert not [tag for tag in values(kite) if "header" in tag], "no bow is known"
    assert (tmp_path / "out" / "ImageSets" / "train.txt").read_text() == "a\nb\n"
    assert tree(tmp_path / "out" / "FullDataSet" / "Annotations" / "a.xml").find("HRSC_Objects") is not None


def test_corners_and_rectangle_of_ssdd(tmp_path: Path) -> None:
    """The rectangle beside the corners covers the same, its angle between 0 and 90 degrees, clockwise on screen."""
    quads = [rectangle(40, 30, 24, 10, degrees) for degrees in (-80, -45, -1, 0, 1, 45, 89)]
    scenes = {"a": (noise(64, 96), "".join(line(quad, "ship") for quad in quads))}
    convert_dataset(dota_folder(tmp_path / "dota", {"test_inshore": scenes}), tmp_path / "out", "ssdd")
    base = tmp_path / "out" / "RBox_SSDD" / "voc_style"
    assert (base / "JPEGImages_test_inshore" / "a.png").is_file()
    found = tree(base / "Annotations_test_inshore" / "a.xml").findall("object")
    for quad, thing in zip(quads, found, strict=True):
        tags = {tag: float(text) for tag, text in values(thing.find("rotated_bndbox")).items()}
        box = [tags[f"rotated_bbox_{tag}"] for tag in ("cx", "cy", "w", "h", "theta")]
        assert 0 <= box[4] <= 90
        assert overlap(np.array(rectangle(*box)), np.array(quad)) > 0.999
        assert [tags[f"{'xy'[k % 2]}{k // 2 + 1}"] for k in range(8)] == pytest.approx(np.ravel(quad), abs=6e-3)
        edges = [float(text) for text in values(thing.find("bndbox")).values()]
        assert edges == pytest.approx(Polygon(quad).bounds, abs=6e-3)


def test_rsdd_has_its_own_sides_and_the_labels_as_coco_too(tmp_path: Path) -> None:
    convert_dataset(source(tmp_path / "dota", "ship"), tmp_path / "out", "rsdd")
    root = tree(tmp_path / "out" / "Annotations" / "b.xml")
    assert root.find("polarization") is not None
    box = {tag: float(text) for tag, text in values(root.findall("object/robndbox")[2]).items()}
    assert list(box) == ["cx", "cy", "h", "w", "angle"]
    assert list(box.values()) == pytest.approx([4, 50, 20, 8, np.deg2rad(10)], abs=1e-2)
    coco = tmp_path / "coco"
    (coco / "annotations").mkdir(parents=True)
    (coco / "annotations" / "train.json").write_bytes((tmp_path / "out" / "ImageSets" / "train.json").read_bytes())
    (coco / "train").symlink_to(tmp_path / "out" / "JPEGImages")
    dataset = open_dataset(coco, "train", form="coco")
    assert np.allclose(dataset.quads[0], KITE)


def test_a_cargo_ship_with_its_levels(tmp_path: Path) -> None:
    convert_dataset(source(tmp_path / "dota", "cargo"), tmp_path / "out", "shiprsimagenet")
    base = tmp_path / "out" / "VOC_Format"
    assert (base / "ImageSets" / "train.txt").read_text() == "a.png\nb.png\n", "with suffix, as its devkit has them"
    kite = tree(base / "annotations" / "b.xml").findall("object")[0]
    levels = {f"level_{k}": str(number) for k, number in enumerate((1, 3, 15, 40))}
    assert values(kite) == {"name": "Cargo", "difficult": "1", **levels}, "spelt as its authors do"
    assert list(values(kite.find("bndbox")).values()) == ["10", "12", "52.5", "40.25"]
    corners = values(kite.find("polygon"))
    assert list(corners) == ["x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4"]
    assert [float(text) for text in corners.values()] == list(np.ravel(KITE))


def test_lines_of_vhr10(tmp_path: Path) -> None:
    convert_dataset(source(tmp_path / "dota", "ship"), tmp_path / "out", "nwpu_vhr10")
    out = tmp_path / "out"
    assert (out / "ground truth" / "b.txt").read_text() == "(10,12),(52,40),2\n(-7,44),(15,56),2\n"
    assert sorted(path.name for path in (out / "ground truth").iterdir()) == ["b.txt", "d.txt"]
    assert (out / "negative image set" / "a.png").is_file()
    assert (out / "ImageSets" / "train.txt").read_text() == "negative_a\nb\n"


def test_lines_of_ucas_aod(tmp_path: Path) -> None:
    """Thirteen numbers: corners, the direction of the first side, the upright box from its top left."""
    convert_dataset(source(tmp_path / "dota", "airplane"), tmp_path / "out", "ucas_aod")
    lines = (tmp_path / "out" / "PLANE" / "b.txt").read_text().splitlines()
    rows = [[float(word) for word in text.split("\t")] for text in lines]
    assert len(rows) == 2
    assert rows[0][:8] == list(np.ravel(KITE))
    assert rows[0][8] == pytest.approx(np.rad2deg(np.arctan2(-8, 20)) + 180)
    assert rows[0][9:] == [10, 12, 42.5, 28.25]
    assert rows[1][8] == pytest.approx(10, abs=0.1)
    assert (tmp_path / "out" / "ImageSets" / "train.txt").read_text() == "Neg_a\nPLANE_b\n"


def test_an_image_of_ucas_aod_shows_one_class(tmp_path: Path) -> None:
    """That of which it has more, cars where it has as many; ignored objects do not count."""
    mixed = [line(EDGE, "car") + 2 * line(SHIP, "airplane"), line(EDGE, "airplane") + line(SHIP, "car")]
    scenes = {"a": (noise(64, 96), mixed[0]), "b": (noise(64, 96, 1), mixed[1])}
    scenes["c"] = (noise(64, 96, 2), 2 * line(KITE, "airplane", 2) + line(SHIP, "car"))
    root = dota_folder(tmp_path / "dota", {"train": scenes})
    (root / "train" / "tiles.json").write_text('{"difficult_2": "ignored"}')
    report = convert_dataset(root, tmp_path / "out", "ucas_aod")
    after = open_dataset(tmp_path / "out", "train")
    assert (after.ids, after.labels.tolist(), np.diff(after.offsets).tolist()) == (
        ("PLANE_a", "b", "c"),
        [1, 1, 0, 0],
        [2, 1, 1],
    )
    assert report.lost == {
        "ignored object, left out": 2,
        "object of the other class in its image, left out": 2,
        "image with another name, as the folder is part of it": 1,
    }


def test_images_that_would_get_one_name(tmp_path: Path) -> None:
    """Airplanes P0001 and P0511 are one file; a negative image may be called like a positive one."""
    planes = {name: (noise(64, 96, k), line(SHIP, "airplane")) for k, name in enumerate(("P0001", "P0511"))}
    root = dota_folder(tmp_path / "a", {"train": planes})
    with pytest.raises(DataError, match=r"two images called P0511: .*/a: ucas_aod would call them so: rename one"):
        convert_dataset(root, tmp_path / "out", "ucas_aod")
    scenes = {"train": {"negative_1": (noise(64, 96), line(SHIP, "ship"))}, "val": {"1": (noise(64, 96, 1), "")}}
    with pytest.raises(DataError, match=r"two images called negative_1: .*in (train and val|val and train)"):
        convert_dataset(dota_folder(tmp_path / "b", scenes), tmp_path / "out", "nwpu_vhr10")
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("form", ["nwpu_vhr10", "ucas_aod"])
def test_tiles_in_folders_by_what_they_show(tmp_path: Path, form: str) -> None:
    """Tiles without an object go where such images are; done again after an interruption, none is cut twice."""
    name = NAMES[form]
    scenes = {"a": (noise(96, 160), line(rectangle(30, 30, 20, 10, 20), name)), "b": (noise(64, 64, 1), "")}
    root = dota_folder(tmp_path / "dota", {"train": scenes})
    first = tile_dataset(root, tmp_path / "one", Cut(64, 16), writing=Writing(form))
    dataset = open_dataset(tmp_path / "one", "train")
    assert len(dataset) == len(first.splits["train"].index) == 7
    assert [name for name, count in zip(dataset.ids, np.diff(dataset.offsets), strict=True) if count] == [
        "a__1.0__0___0"
    ]
    calls = 0

    def stop(path: Path, data: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise KeyboardInterrupt
        place(path, data)

    with mock.patch("fledge.data.tile_images.place", stop), pytest.raises(KeyboardInterrupt):
        tile_dataset(root, tmp_path / "two", Cut(64, 16), writing=Writing(form))
    with mock.patch("fledge.data.tile_images.place", side_effect=place) as cut:
        tile_dataset(root, tmp_path / "two", Cut(64, 16), writing=Writing(form))
    assert cut.call_count == 4
    for path in sorted((tmp_path / "one").rglob("*.png")):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


SHARE = st.floats(-0.2, 1.2)
QUADS = st.lists(st.tuples(*[SHARE] * 8).map(lambda values: np.reshape(values, (4, 2)) * [90, 70]), max_size=6)


@given(QUADS, st.lists(st.booleans(), min_size=6, max_size=6))
@settings(max_examples=8)
def test_any_corners_come_back(quads: list[NDArray[Any]], difficult: list[bool]) -> None:
    """Corners that a reader accepts are written so that it reads the same again, or the nearest that the form has."""
    with tempfile.TemporaryDirectory() as folder, mock.patch("os.sync"), mock.patch("os.fsync"):
        root = Path(folder)
        text = "".join(line(quad.tolist(), "car", int(flag)) for quad, flag in zip(quads, difficult, strict=False))
        dota_folder(root / "source", {"train": {"a": (noise(70, 90), text + line(SHIP, "car"))}})
        before = open_dataset(root / "source", "train", skip_bad_labels=True)
        for form in FIXED:
            remap = {"car": NAMES[form]}
            convert_dataset(root / "source", root / form, form, skip_bad_labels=True, remap=remap)
            after = open_dataset(root / form, "train")
            assert len(after.labels) == len(before.labels)
            if form in ("hrsc2016", "shiprsimagenet"):
                assert np.array_equal(before.difficult, after.difficult)
            if form == "hrsc2016":
                assert np.abs(before.boxes[:, :4] - after.boxes[:, :4]).max() <= 1e-4
            elif form == "nwpu_vhr10":
                for a, b in zip(before.quads, after.quads, strict=True):
                    off = np.concatenate([b.min(axis=0) - a.min(axis=0), b.max(axis=0) - a.max(axis=0)])
                    assert np.abs(off).max() <= 0.5001 or (np.abs(off).max() <= 1 and (off[:2] <= 0).all())
            else:
                assert np.abs(before.quads - after.quads).max() <= 2e-3


def test_slivers_keep_a_pixel(tmp_path: Path) -> None:
    """Boxes thinner than a pixel, and boxes at the very edge, rounded to whole pixels and still read."""
    slivers = [(10.2, 20.4, 10.4, 40.6), (-5.2, 3.0, 0.4, 9.0), (95.6, 3.0, 99.0, 9.0), (30, 30, 30.3, 30.3)]
    text = "".join(line([[a, b], [c, b], [c, d], [a, d]], "ship") for a, b, c, d in slivers)
    convert_dataset(
        dota_folder(tmp_path / "dota", {"train": {"a": (noise(64, 96), text)}}), tmp_path / "o", "nwpu_vhr10"
    )
    rows = (tmp_path / "o" / "ground truth" / "a.txt").read_text().split()
    assert rows == ["(10,20),(11,41),2", "(-6,3),(1,9),2", "(95,3),(99,9),2", "(30,30),(31,31),2"]
    assert len(open_dataset(tmp_path / "o", "train").labels) == 4
