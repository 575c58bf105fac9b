"""What `fledge check` measures, and images that occur twice."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.made import Quad, dota_folder, indexed, line, noise, rectangle

from fledge.data.conversion import convert_dataset
from fledge.data.duplicates import NEAR_BITS, Prints, difference_hash, digest, find_twins, take_prints
from fledge.data.findings import findings
from fledge.data.health import check_dataset, health_record, measure
from fledge.errors import DataError

SHIP = rectangle(50, 40, 20, 10, 30)


def prints(hashes: list[int], names: list[str], digests: list[bytes] | None = None) -> Prints:
    files = tuple(Path(f"{k}.png") for k in range(len(hashes)))
    marks = tuple(digests or [bytes([k // 256, k % 256]) for k in range(len(hashes))])
    usable = np.ones(len(hashes), dtype=np.bool_)
    return Prints(tuple(names), files, marks, np.array(hashes, dtype=np.uint64), usable, ())


def slow_twins(hashes: list[int], names: list[str]) -> set[tuple[int, str, int]]:
    """(image, other split, bits) by comparing all pairs; in one split only with earlier images."""
    order = list(dict.fromkeys(names))
    found: dict[tuple[int, str], int] = {}
    for i, one in enumerate(hashes):
        for j, two in enumerate(hashes):
            bits = (one ^ two).bit_count()
            earlier = order.index(names[j]) < order.index(names[i]) or (names[i] == names[j] and j < i)
            if earlier and bits <= NEAR_BITS:
                found[i, names[j]] = min(bits, found.get((i, names[j]), 64))
    return {(i, name, bits) for (i, name), bits in found.items()}


@st.composite
def clustered(draw: st.DrawFn) -> tuple[list[int], list[str]]:
    bases = draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=3))
    flips = st.lists(st.integers(0, 63), max_size=6)
    rows = draw(st.lists(st.tuples(st.sampled_from(bases), flips, st.sampled_from("abc")), max_size=25))
    hashes = [base ^ sum(1 << bit for bit in set(bits)) for base, bits, _ in rows]
    return hashes, [name for _, _, name in rows]


@given(clustered())
@settings(max_examples=80)
def test_near_twins_as_by_comparing_all_pairs(case: tuple[list[int], list[str]]) -> None:
    hashes, names = case
    found = find_twins(prints(hashes, names))
    assert {(int(t.path.stem), t.other_split, t.bits) for t in found} == slow_twins(hashes, names)
    for twin in found:
        assert (hashes[int(twin.path.stem)] ^ hashes[int(twin.other.stem)]).bit_count() == twin.bits
        assert names[int(twin.other.stem)] == twin.other_split


def test_fifty_thousand_images() -> None:
    """A tenth of them copies with three bits changed; all pairs would be 1.25 thousand million."""
    rng = np.random.default_rng(0)
    n, copies = 50_000, 5_000
    hashes = rng.integers(0, 2**63, n, dtype=np.uint64)
    hashes[-copies:] = hashes[:copies] ^ np.uint64(0b10000000001000000001)
    names = ["train"] * (n - copies) + ["test"] * copies
    found = find_twins(prints(hashes.tolist(), names))
    between = {(int(twin.path.stem), int(twin.other.stem)) for twin in found if twin.split != twin.other_split}
    assert between == {(n - copies + k, k) for k in range(copies)}


def test_the_hash_sees_through_scale_contrast_and_encoding() -> None:
    image = noise(120, 160)
    value, usable = difference_hash(image)
    assert usable
    smaller = cv2.resize(image, (90, 70), interpolation=cv2.INTER_AREA)
    darker = (image * 0.7 + 10).astype(np.uint8)
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])
    deep = image.astype(np.uint16) * 257
    for changed in (smaller, darker, np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)), deep):
        assert (difference_hash(changed)[0] ^ value).bit_count() <= NEAR_BITS
    assert (difference_hash(noise(120, 160, 1))[0] ^ value).bit_count() > NEAR_BITS


def test_the_hash_by_hand() -> None:
    ramp = np.tile(np.arange(0, 180, 20, dtype=np.uint8), (8, 1))[..., None]
    assert difference_hash(ramp) == (2**64 - 1, True)
    assert difference_hash(ramp[:, ::-1]) == (0, True)
    assert not difference_hash(np.full((50, 50, 3), 90, np.uint8))[1], "a blank image resembles every other one"
    assert not difference_hash(np.zeros((1, 1, 1), np.uint16))[1]


def test_digests_tell_pixels_shapes_and_types_apart() -> None:
    image = noise(8, 8)
    others = [image[:, ::-1], image.reshape(4, 16, 3), image.astype(np.uint16), image[..., :1]]
    assert len({digest(other) for other in [image, *others]}) == 5
    assert digest(image.copy()) == digest(image[::1])


def test_exact_twins_and_damaged_files(tmp_path: Path) -> None:
    image = noise(40, 50)
    for name, pixels in (("a.png", image), ("b.bmp", image), ("c.png", noise(40, 50, 5))):
        cv2.imwrite(str(tmp_path / name), pixels)
    (tmp_path / "d.png").write_bytes((tmp_path / "a.png").read_bytes()[:200])
    rows = [("train", "a.png"), ("train", "c.png"), ("test", "b.bmp"), ("test", "d.png"), ("train", "a.png")]
    taken = take_prints([(split, tmp_path / name) for split, name in rows])
    assert len(taken.faults) == 1
    alone = take_prints([(split, tmp_path / name) for split, name in rows], workers=1)
    assert (alone.digests, alone.faults) == (taken.digests, taken.faults)
    assert (alone.hashes.tolist(), alone.usable.tolist()) == (taken.hashes.tolist(), taken.usable.tolist())
    assert "d.png" in taken.faults[0]
    found = [(t.split, t.path.name, t.other_split, t.other.name, t.exact) for t in find_twins(taken)]
    assert sorted(found) == [("test", "b.bmp", "train", "a.png", True), ("train", "a.png", "train", "a.png", True)]


def test_figures_by_hand() -> None:
    quads: list[Quad] = [
        rectangle(50, 40, 20, 5),
        rectangle(50, 40, 20, 5),  # the same corners, another class
        rectangle(20, 20, 3, 3, 45),
        rectangle(50, 50, 70, 60, 10),
        rectangle(2, 50, 20, 10, 30),
        [[60, 60], [90, 63], [61, 61], [56, 90]],
        rectangle(50, 80, 8, 4),
    ]
    dataset = indexed([(100, 100), (80, 60)], [quads, []], ignore=np.arange(7) == 6)
    health = measure(dataset)
    assert (health.identical, health.tiny, health.huge, health.beyond, health.odd) == (0, 1, 1, 1, 1)
    assert (health.aligned, health.counts.ignored, health.counts.empty) == (2, 1, 1)
    assert health.image_sizes == {(100, 100): 1, (60, 80): 1}
    assert health.sizes[0] <= 10 <= health.sizes[2]
    again = indexed([(100, 100)], [quads[:1] * 3], labels=np.zeros(3, dtype=np.int64))
    assert measure(again).identical == 2
    assert measure(indexed([(10, 10)], [[]])).sizes == ()


def bad_and_doubled(root: Path) -> Path:
    image = noise(80, 100)
    text = line(SHIP, "ship") * 2 + "1 2 3 4 5 6 7 8\nx 2 3 4 5 6 7 8 ship 0\n"
    scenes = {"a": (image, text), "b": (noise(80, 100, 1), line(SHIP, "plane"))}
    return dota_folder(root, {"train": scenes, "val": {"c": (image, line(SHIP, "ship"))}})


def test_a_sick_dataset(tmp_path: Path) -> None:
    health = check_dataset(bad_and_doubled(tmp_path / "data"))
    assert not health.passed
    assert [problem.where.rpartition("/")[2] for problem in health.splits["train"].dataset.skipped] == [
        "a.txt:3",
        "a.txt:4",
    ]
    assert [(twin.split, twin.path.name, twin.other.name) for twin in health.leaks] == [("val", "c.png", "a.png")]
    assert health.missing == {"val": ("plane",)}
    texts = [(f.kind, f.where, f.text) for f in findings(health)]
    assert ("error", "train", "2 bad labels (1 fields, 1 number)") in texts
    assert not any("skipped" in text for _, _, text in texts)
    assert ("error", "val", "1 image has the same pixels as one of train") in texts
    assert ("warning", "val", "no object of plane") in texts
    assert ("warning", "train", "1 object labelled twice; training takes one of each") in texts
    record = json.loads(json.dumps(health_record(health), allow_nan=False))
    assert record["splits"]["train"]["bad labels"][0]["where"].endswith("a.txt:3")
    assert record["twins"][0]["exact"] is True


def test_a_split_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path) -> None:
    root = bad_and_doubled(tmp_path / "data")
    (root / "val" / "images" / "c.png").write_bytes(b"")
    health = check_dataset(root)
    assert list(health.splits) == ["train"]
    assert "c.png" in health.refused["val"]
    (root / "train" / "labelTxt" / "b.txt").unlink()
    health = check_dataset(root)
    assert "have no label file" in health.refused["train"]
    assert health.splits["train"].counts.empty == 1
    (root / "train" / "images" / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.png"):
        check_dataset(root)


def test_a_sound_dataset_passes_and_near_twins_do_not_fail_it(tmp_path: Path) -> None:
    image = noise(80, 100)
    brighter = np.minimum(image.astype(int) + 3, 255).astype(np.uint8)
    root = dota_folder(
        tmp_path / "data",
        {"train": {"a": (image, line(SHIP, "ship"))}, "val": {"b": (brighter, line(SHIP, "ship"))}},
    )
    health = check_dataset(root)
    assert health.passed
    assert [(twin.exact, twin.split, twin.other_split) for twin in health.twins] == [(False, "val", "train")]


def test_against_another_dataset(tmp_path: Path) -> None:
    root = bad_and_doubled(tmp_path / "data")
    convert_dataset(root, tmp_path / "other", "coco", ["val"], skip_bad_labels=True)
    path = tmp_path / "other" / "annotations" / "val.json"
    path.write_text(path.read_text().replace("plane", "harbor"))
    health = check_dataset(root, tmp_path / "other")
    assert (health.only_here, health.only_there) == (("plane",), ("harbor",))
    shared = [(twin.split, twin.other_split) for twin in health.leaks if "other" in twin.split + twin.other_split]
    assert len(shared) == 2
    assert all({"train", "val"} & set(pair) for pair in shared)


def test_histograms_against_counting_one_by_one() -> None:
    rng = np.random.default_rng(0)
    quads: list[Quad] = [
        rectangle(50, 50, 3 + 400 * rng.random() ** 3, 2 + 40 * rng.random(), 360 * rng.random()) for _ in range(200)
    ]
    dataset = indexed([(100, 100)] * 3, [quads[:150], [], quads[150:]], ignore=np.arange(200) % 10 == 0)
    size, aspect, angle, crowd = measure(dataset).histograms
    assert crowd.counts == (1, 0, 0, 0, 0, 1, 0, 1, 0, 0), "none, 45 and 135 that count"
    assert crowd.bins == ("0", "1", "2–4", "5–9", "10–19", "20–49", "50–99", "100–199", "200–499", "≥ 500")
    found = {name: dict.fromkeys(h.bins, 0) for name, h in (("size", size), ("aspect", aspect), ("angle", angle))}
    for box, ignored in zip(dataset.boxes.tolist(), dataset.ignore, strict=True):
        if ignored:
            continue
        side, ratio, degrees = (box[2] * box[3]) ** 0.5, box[2] / box[3], np.rad2deg(box[4])
        found["size"][next((b for b in size.bins[1:-1] if inside(side, b)), "< 4" if side < 4 else "≥ 1024")] += 1
        found["aspect"][
            next((b for b in aspect.bins[1:-1] if inside(ratio, b)), "< 1.1" if ratio < 1.1 else "≥ 8")
        ] += 1
        if ratio >= 1.1:
            low = int(degrees // 15 * 15)
            found["angle"][f"{low}° to {low + 15}°".replace("-", "−")] += 1
    for name, histogram in (("size", size), ("aspect", aspect), ("angle", angle)):
        assert found[name] == dict(zip(histogram.bins, histogram.counts, strict=True))


def inside(value: float, name: str) -> bool:
    low, high = map(float, name.split("–"))
    return low <= value < high
