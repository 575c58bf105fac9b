"""Synthetic scenes: same bits everywhere, honest boxes, a dataset that survives interruption."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import Point, Polygon, box

from fledge.data.synthetic import CLASSES, LAYOUTS, Scene, render_scene, render_showpiece, write_dataset
from fledge.data.synthetic.objects import AIRCRAFT, BUILDERS, COURT, SHIP, TANK, VEHICLE, sample_size
from fledge.data.synthetic.scene import EMPTY_SHARE, _draw_kind
from fledge.data.synthetic.shapes import Points, Pose
from fledge.data.synthetic.stage import SUPERSAMPLING, Stage, draw
from fledge.data.synthetic.writer import tile_seed
from fledge.errors import ResourceError, UsageError

MAIN_CLASS = {
    "apron": "aircraft",
    "harbour": "ship",
    "car-park": "vehicle",
    "road": "vehicle",
    "tank-farm": "storage-tank",
    "sports": "court",
    "open-sea": "ship",
}


def digest(scene: Scene) -> str:
    parts = (scene.image, scene.quads, scene.labels, scene.difficult)
    return hashlib.sha256(b"".join(p.tobytes() for p in parts)).hexdigest()


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    """One tile of every layout and two mixed ones, of unequal sides."""
    names = [*LAYOUTS, "mixed", "mixed"]
    return [render_scene(40 + i, 192, 256, name) for i, name in enumerate(names)]


def test_types_shapes_and_frozen() -> None:
    scene = render_scene(3, 128, 192)
    assert scene.image.shape == (128, 192, 3)
    assert scene.image.dtype == np.uint8
    assert scene.quads.shape[1:] == (4, 2)
    assert scene.quads.dtype == np.float32
    assert scene.labels.dtype == np.int64
    assert scene.difficult.dtype == np.bool_
    assert len(scene.quads) == len(scene.labels) == len(scene.difficult)
    with pytest.raises(AttributeError):
        scene.labels = scene.labels  # type: ignore[misc]


@pytest.mark.parametrize("layout", [None, "harbour", "countryside"])
def test_same_arguments_same_bits(layout: str | None) -> None:
    first = digest(render_scene(11, 160, 160, layout))
    np.random.default_rng(0).random()
    assert digest(render_scene(11, 160, 160, layout)) == first
    assert digest(render_scene(12, 160, 160, layout)) != first


def test_same_bits_in_another_process_with_other_thread_counts() -> None:
    here = digest(render_scene(5, 256, 256, "mixed")) + digest(render_showpiece(5, 448, 512))
    code = (
        "import cv2, hashlib, sys\n"
        "from fledge.data.synthetic import render_scene, render_showpiece\n"
        "cv2.setNumThreads(int(sys.argv[1]))\n"
        "for s in (render_scene(5, 256, 256, 'mixed'), render_showpiece(5, 448, 512)):\n"
        "    parts = (s.image, s.quads, s.labels, s.difficult)\n"
        "    print(hashlib.sha256(b''.join(p.tobytes() for p in parts)).hexdigest(), end='')\n"
    )
    for threads in ("1", "4"):
        run = subprocess.run([sys.executable, "-c", code, threads], capture_output=True, text=True, check=True)
        assert run.stdout == here


def test_centre_and_seventy_percent_inside(scenes: list[Scene]) -> None:
    cut = 0
    for scene in scenes:
        height, width = scene.image.shape[:2]
        frame = box(0, 0, width, height)
        for quad in scene.quads.astype(float):
            shape = Polygon(quad)
            assert frame.contains(Point(quad.mean(axis=0)))
            assert shape.intersection(frame).area >= 0.699 * shape.area
            cut += not frame.contains(shape)
    assert cut > 0


def test_quads_are_clockwise_rectangles_that_do_not_overlap(scenes: list[Scene]) -> None:
    for scene in scenes:
        shapes = [Polygon(q) for q in scene.quads.astype(float)]
        for quad in scene.quads.astype(float):
            sides = np.roll(quad, -1, axis=0) - quad
            assert np.allclose(sides[0], -sides[2], atol=1e-3)
            assert abs(sides[0] @ sides[1]) < 1e-2
            assert sides[0][0] * sides[1][1] - sides[0][1] * sides[1][0] > 0
        for i, one in enumerate(shapes):
            assert all(one.intersection(other).area < 0.05 * min(one.area, other.area) for other in shapes[:i])


def test_first_corner_is_the_objects_front_left() -> None:
    east = Pose(50, 40, 0.0).quad(20, 10)
    assert np.allclose(east, [[60, 35], [60, 45], [40, 45], [40, 35]])
    south = Pose(50, 40, np.pi / 2).quad(20, 10)
    assert np.allclose(south, [[55, 50], [45, 50], [45, 30], [55, 30]])


def alone(label: int, seed: int) -> tuple[Pose, Points, Points]:
    """The pose and box of one object drawn without shadow, and the (N, 2) centres of the pixels it changed."""
    rng = np.random.Generator(np.random.PCG64(seed))
    length, width = sample_size(rng, label)
    pose = Pose(48 + float(rng.random()), 48 + float(rng.random()), float(rng.uniform(0, 6.28)))
    side = 96 * SUPERSAMPLING
    canvas = np.full((side, side, 3), (255, 0, 255), np.uint8)
    draw(canvas, pose, BUILDERS[label](rng, length, width, (0.6, 0.8)))
    rows, columns = np.nonzero(np.abs(canvas.astype(int) - (255, 0, 255)).sum(axis=2) > 150)
    return pose, pose.quad(length, width), np.stack([columns + 0.5, rows + 0.5], axis=1) / SUPERSAMPLING


def overlap(one: Points, other: Points) -> float:
    a, b = Polygon(one), Polygon(other)
    return float(a.intersection(b).area / a.union(b).area)


@pytest.mark.parametrize("label", [SHIP, VEHICLE, COURT])
def test_box_is_the_smallest_rectangle_around_the_pixels(label: int) -> None:
    for seed in range(12):
        _, quad, pixels = alone(label, seed)
        smallest = cv2.boxPoints(cv2.minAreaRect(pixels.astype(np.float32)))
        assert overlap(quad, np.asarray(smallest, np.float64)) > 0.88


@pytest.mark.parametrize("label", [AIRCRAFT, TANK])
def test_box_along_the_heading_is_tight(label: int) -> None:
    """The smallest rectangle around a cross or a circle may lie at any angle: measured along the heading instead."""
    for seed in range(12):
        pose, quad, pixels = alone(label, seed)
        c, s = np.cos(pose.angle), np.sin(pose.angle)
        u, v = (pixels - (pose.x, pose.y)) @ np.array([c, s]), (pixels - (pose.x, pose.y)) @ np.array([-s, c])
        extent = np.array([[u.max(), v.min()], [u.max(), v.max()], [u.min(), v.max()], [u.min(), v.min()]])
        assert overlap(quad, extent @ np.array([[c, s], [-s, c]]) + (pose.x, pose.y)) > 0.88
        assert abs(v.mean()) < 0.03 * (v.max() - v.min())


def test_ships_are_narrow_at_the_front() -> None:
    for seed in range(12):
        pose, _, pixels = alone(SHIP, seed)
        u = (pixels - (pose.x, pose.y)) @ np.array([np.cos(pose.angle), np.sin(pose.angle)])
        tenth = (u.max() - u.min()) / 10
        assert np.count_nonzero(u > u.max() - tenth) < 0.8 * np.count_nonzero(u < u.min() + tenth)


@pytest.mark.parametrize("label", range(len(CLASSES)), ids=CLASSES)
@pytest.mark.parametrize("seed", range(8))
def test_sprites_reach_all_four_sides_of_their_box_and_no_further(label: int, seed: int) -> None:
    rng = np.random.Generator(np.random.PCG64([seed, label]))
    length, width = sample_size(rng, label)
    points = np.concatenate([p for p, _ in BUILDERS[label](rng, length, width, (0.0, 1.0)).parts])
    assert np.allclose(points.max(axis=0), (length / 2, width / 2), atol=0.3)
    assert np.allclose(points.min(axis=0), (-length / 2, -width / 2), atol=0.3)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, len(CLASSES) - 1))
def test_sizes_are_in_the_stated_ranges(seed: int, label: int) -> None:
    length, width = sample_size(np.random.Generator(np.random.PCG64(seed)), label)
    lows, highs = [(34, 34), (36, 10), (20, 9), (18, 18), (44, 22)], [(60, 60), (80, 20), (26, 12), (40, 40), (64, 32)]
    assert lows[label][0] <= length <= highs[label][0]
    assert lows[label][1] <= width <= highs[label][1]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_show_what_they_are_named_for(layout: str) -> None:
    found: set[str] = set()
    for seed in range(3):
        scene = render_scene(seed, 256, 256, layout)
        found |= {CLASSES[i] for i in scene.labels.tolist()}
        assert scene.image.std() > 4
    assert layout == "countryside" or MAIN_CLASS[layout] in found


def test_empty_scenes_have_scenery_but_no_object() -> None:
    for seed in range(4):
        scene = render_scene(seed, 128, 128, "empty")
        assert scene.quads.shape == (0, 4, 2)
        assert scene.labels.shape == scene.difficult.shape == (0,)
        assert scene.image.std() > 3
    rng = np.random.Generator(np.random.PCG64(0))
    share = np.mean([_draw_kind(rng) == "empty" for _ in range(4000)])
    assert abs(share - EMPTY_SHARE) < 0.015


def test_headings_cover_the_circle() -> None:
    counts = np.zeros(8)
    for seed in range(16):
        quads = render_scene(seed, 192, 192, "apron").quads
        forward = quads[:, 0] - quads[:, 3]
        angles = np.arctan2(forward[:, 1], forward[:, 0])
        counts += np.bincount(((angles + np.pi) / (2 * np.pi) * 8).astype(int) % 8, minlength=8)
    assert (counts > 0).all()


def test_showpiece_holds_every_class() -> None:
    scene = render_showpiece(1)
    assert scene.image.shape == (768, 1024, 3)
    assert set(scene.labels.tolist()) == set(range(len(CLASSES)))


@pytest.mark.parametrize(("covered", "expected"), [(0.0, [False]), (0.5, [False]), (0.75, [True]), (1.0, [])])
def test_difficult_above_sixty_percent_hidden_dropped_above_ninety(covered: float, expected: list[bool]) -> None:
    stage = Stage(np.random.Generator(np.random.PCG64(1)), 128, 128)
    placed = stage.place(COURT, Pose(64, 64, 0.4), (60, 30))
    assert placed is not None
    if covered:
        # A court is a full rectangle: hiding this share of its length hides the same share of its body.
        shift = -(1 - covered) * 30
        stage.hide(placed.pose.child(shift, 0).quad(60 * covered + (1 if covered == 1 else 0), 33))
    assert [hard for _, hard in stage.labelled()] == expected


def test_an_object_is_refused_on_another_and_across_the_border() -> None:
    stage = Stage(np.random.Generator(np.random.PCG64(1)), 128, 128)
    assert stage.place(COURT, Pose(64, 64, 0.4), (60, 30)) is not None
    assert stage.place(COURT, Pose(70, 60, 1.4), (60, 30)) is None
    assert stage.place(TANK, Pose(3, 110, 0.0), (30, 30)) is None
    assert stage.place(TANK, Pose(9, 110, 0.0), (30, 30)) is not None
    assert stage.place(TANK, Pose(128.5, 10, 0.0), (30, 30)) is None


@pytest.mark.parametrize(
    "call",
    [
        lambda: render_scene(-1),
        lambda: render_scene(0, 63, 256),
        lambda: render_scene(0, 256, 0),
        lambda: render_scene(0, layout="airport"),
        lambda: render_showpiece(0, 10, 10),
    ],
)
def test_bad_arguments_are_refused(call: object) -> None:
    with pytest.raises(UsageError, match="use"):
        call()  # type: ignore[operator]


def read_dota(path: Path) -> tuple[np.ndarray, list[str], list[bool]]:
    lines = path.read_text().splitlines()
    assert lines[:2] == ["imagesource:fledge-synthetic", "gsd:0.3"]
    rows = [line.split() for line in lines[2:]]
    assert all(len(row) == 10 for row in rows)
    quads = np.array([[float(v) for v in row[:8]] for row in rows]).reshape(-1, 4, 2)
    return quads, [row[8] for row in rows], [bool(int(row[9])) for row in rows]


def test_dataset_reads_back(tmp_path: Path) -> None:
    seen: list[int] = []
    folder = write_dataset(tmp_path, "train", 4, 128, 9, seen.append)
    assert folder == tmp_path / "train"
    assert seen == [1, 2, 3, 4]
    images, labels = sorted((folder / "images").iterdir()), sorted((folder / "labelTxt").iterdir())
    assert [p.stem for p in images] == [p.stem for p in labels]
    assert {p.suffix for p in images} == {".png"}
    assert len(images) == 4
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        scene = render_scene(tile_seed(9, "train", i), 128, 128)
        pixels = cv2.imread(str(image))
        assert pixels is not None
        assert np.array_equal(pixels[..., ::-1], scene.image)
        quads, names, difficult = read_dota(label)
        assert np.allclose(quads, scene.quads, atol=0.006)
        assert names == [CLASSES[k] for k in scene.labels]
        assert difficult == scene.difficult.tolist()


def test_resumes_and_leaves_complete_tiles_alone(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, "val", 3, 96, 1)
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in files}
    lost = folder / "labelTxt" / "val_00001.txt"
    lost.unlink()
    write_dataset(tmp_path, "val", 3, 96, 1)
    assert sorted(p for p in folder.rglob("*") if p.is_file()) == files
    for path, (content, changed) in before.items():
        assert path.read_bytes() == content
        assert (path.stat().st_mtime_ns == changed) == ("00001" not in path.name)


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ResourceError, match=r"train_00000\.png: No space left"):
        write_dataset(tmp_path, "train", 1, 96, 1)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "train").write_text("")
    with pytest.raises(ResourceError, match="cannot write"):
        write_dataset(tmp_path, "train", 1, 96, 1)


def test_zero_tiles_write_nothing(tmp_path: Path) -> None:
    write_dataset(tmp_path, "train", 0, 96, 1)
    assert list(tmp_path.rglob("*.png")) == []


def test_splits_share_no_seed() -> None:
    seeds = [tile_seed(s, split, i) for s in (0, 1) for split in ("train", "val", "test") for i in range(200)]
    assert len(set(seeds)) == len(seeds)
