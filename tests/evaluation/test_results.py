"""Result files of other tools: read back by hand-made values, and refused with their place."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.made import indexed, rectangle

from fledge.data.labels import DetectionDataset, LabelProblem
from fledge.errors import DataError
from fledge.evaluation.results import case_from_files, found_of, objects_of, read_results
from fledge.evaluation.results.json_records import Ids, read_records
from fledge.evaluation.results.label_text import read_label_files
from fledge.evaluation.results.listing import Listing, Source, sound
from fledge.evaluation.results.task_text import read_task_files
from fledge.evaluation.results.text_table import Layout, read_table
from fledge.inference.writers import write_detections
from fledge.types import Detections, Frame

QUAD = [10.0, 10.0, 30.0, 10.0, 30.0, 20.0, 10.0, 20.0]
LINE = "i0 0.5 10 10 30 10 30 20 10 20\n"
TRUTH = indexed([(40, 50), (40, 50)], [[rectangle(20, 15, 20, 10)], []])


def numbered(**changes: Any) -> DetectionDataset:
    """The same truth in YOLO form, whose class list gives indices a meaning."""
    return indexed([(40, 50), (40, 50)], [[rectangle(20, 15, 20, 10)], []], format="yolo_obb", **changes)


def put(folder: Path, **files: str | bytes) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        name = name.replace("__dash__", "-").replace("__dot__", ".")
        (folder / f"{name}.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def refused(path: Path, truth: DetectionDataset = TRUTH) -> str:
    with pytest.raises(DataError) as caught:
        case_from_files(truth, read_results(path, truth))
    return str(caught.value)


def test_task1_folder(tmp_path: Path) -> None:
    folder = put(
        tmp_path / "r", Task1_Ship=LINE + "\n" + LINE.replace("i0", "i1").replace("0.5", "1e-1"), Task1_plane=""
    )
    listing = read_results(folder, TRUTH)
    assert (listing.form, listing.horizontal) == ("DOTA Task 1 text", False)
    case = case_from_files(TRUTH, listing)
    assert case.classes == ("ship", "plane")
    assert case.found.image.tolist() == [0, 1]
    assert case.found.label.tolist() == [0, 0]
    assert case.found.score.tolist() == [0.5, 0.1]
    assert case.found.quads.reshape(-1, 8).tolist() == [QUAD, QUAD]
    np.testing.assert_allclose(case.found.boxes[0], [20, 15, 20, 10, 0], atol=1e-12)
    assert listing.where(1) == f"{folder}/Task1_Ship.txt:3"


def test_lines_with_bom_tabs_and_crlf_are_read(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf" + LINE.replace(" ", "\t").replace("\n", "\r\n").encode() * 2
    assert len(read_results(put(tmp_path / "r", Task1_ship=content), TRUTH)) == 2


def test_task2_lines_are_hulls(tmp_path: Path) -> None:
    listing = read_results(put(tmp_path / "r", Task2_ship="i0 0.5 10 10 30 20\n"), TRUTH)
    assert listing.horizontal
    assert listing.quads.reshape(-1).tolist() == QUAD


def test_a_folder_with_both_tasks_gives_the_one_asked_for(tmp_path: Path) -> None:
    folder = put(tmp_path / "r", Task2_ship="i0 0.5 10 10 30 20\n" * 2, Task1_ship=LINE)
    assert len(read_results(folder, TRUTH)) == 1
    assert len(read_results(folder, TRUTH, horizontal=True)) == 2


def test_a_zip_reads_like_its_folder(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "r.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Task1/Task1_ship.txt", LINE)
        archive.writestr("Task1/Task1_plane.txt", "")
    listing = read_results(tmp_path / "r.zip", TRUTH)
    assert listing.where(0) == f"{tmp_path}/r.zip/Task1/Task1_ship.txt:1"
    assert listing.classes == ("plane", "ship")


BAD_LINES = {
    "i0 0.5 10 10 30 10 30 20 10\n": ":1: 9 fields instead of 10: write image score",
    LINE + "i0 nan 10 10 30 10 30 20 10 20\n": ":2: score nan is not finite",
    "i0 0.5 10 10 30 10 30 20 10 inf\n": ":1: coordinate inf is not finite",
    "i0 0,5 10 10 30 10 30 20 10 20\n": ":1: '0,5' is not a number: write decimals with a point",
    "i0 0.5 1_0 10 30 10 30 20 10 20\n": ":1: '1_0' is not a number",
    "i0 1.5 10 10 30 10 30 20 10 20\n": ":1: the score 1.5 is not in 0…1",
    "i0 -0.5 10 10 30 10 30 20 10 20\n": ":1: the score -0.5 is not in 0…1",
    "i0 0.5 10 10 30 10 30 20 10 1e9\n": ":1: coordinate 1e9 is beyond ±1000000",
    "\n\ni7 0.5 10 10 30 10 30 20 10 20\n": ":3: no image 'i7' in the ground truth",
    "i0 0.5 10 10 30 10 30 20 10 20\0\n": ":1: contains a NUL byte",
}


@pytest.mark.parametrize("text", BAD_LINES)
def test_bad_lines_are_named(tmp_path: Path, text: str) -> None:
    folder = put(tmp_path / "r", Task1_ship=text)
    assert f"{folder}/Task1_ship.txt{BAD_LINES[text]}" in refused(folder)


def test_all_bad_lines_are_named_at_once(tmp_path: Path) -> None:
    message = refused(put(tmp_path / "r", Task1_ship="x\n" * 30, Task1_plane=b"\xff\xfe\n"))
    assert message.startswith("31 problems in the detections (30 fields, 1 encoding)")
    assert "Task1_plane.txt:1: not UTF-8 text" in message
    assert "… and 11 more" in message


def test_an_unknown_class_is_refused_once_it_has_detections(tmp_path: Path) -> None:
    folder = put(tmp_path / "r", Task1_ship=LINE, Task1_tank="")
    assert len(case_from_files(TRUTH, read_results(folder, TRUTH)).found) == 1
    assert "Task1_tank.txt:1: unknown class 'tank'" in refused(put(folder, Task1_tank=LINE))


def test_official_classes_without_objects_are_added(tmp_path: Path) -> None:
    truth = indexed([(40, 50)] * 2, [[rectangle(20, 15, 20, 10)], []], classes=("plane", "ship"))
    case = case_from_files(truth, read_results(put(tmp_path / "r", Task1_helicopter=LINE), truth))
    assert case.classes == ("plane", "ship", "helicopter")


def test_ultralytics_labels(tmp_path: Path) -> None:
    folder = put(tmp_path / "r", i0="1 0.2 0.25 0.6 0.25 0.6 0.5 0.2 0.5 0.75\n")
    listing = read_results(folder, numbered())
    assert listing.quads.reshape(-1).tolist() == QUAD
    assert (listing.score.tolist(), [listing.classes[k] for k in listing.label]) == ([0.75], ["plane"])


def test_ultralytics_horizontal_labels(tmp_path: Path) -> None:
    listing = read_results(put(tmp_path / "r", i0="1 0.4 0.375 0.4 0.25 0.75\n"), numbered())
    assert listing.horizontal
    np.testing.assert_allclose(listing.quads.reshape(-1), QUAD)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("1 0.2 0.25 0.6 0.25 0.6 0.5 0.2 0.5\n", "these lines have no confidence: save them with save_conf=True"),
        ("2 0.2 0.25 0.6 0.25 0.6 0.5 0.2 0.5 0.5\n", "class index is '2': there are 2 names"),
        ("ship 0.2 0.25 0.6 0.25 0.6 0.5 0.2 0.5 0.5\n", "class index is 'ship'"),
        ("1 20 0.25 0.6 0.25 0.6 0.5 0.2 0.5 0.5\n", "coordinate 20 is no fraction of the image"),
    ],
)
def test_bad_ultralytics_labels(tmp_path: Path, text: str, fault: str) -> None:
    assert f"i0.txt:1: {fault}" in refused(put(tmp_path / "r", i0=text), numbered()).replace(
        "9 fields instead of 10: ", ""
    )


def test_indices_need_names(tmp_path: Path) -> None:
    folder = put(tmp_path / "r", i0="1 0.2 0.25 0.6 0.25 0.6 0.5 0.2 0.5 0.75\n")
    assert "class indices have no names" in refused(folder)
    (folder / "data.yaml").write_text("names: [plane, ship]")
    listing = read_results(folder, TRUTH)
    assert [listing.classes[k] for k in listing.label] == ["ship"]  # the detector's order, not the labels'


def records(tmp_path: Path, *rows: Any, truth: DetectionDataset | None = None) -> Listing:
    (tmp_path / "out.json").write_text(json.dumps(rows))
    return read_results(tmp_path / "out.json", truth or numbered())


ROW = {"image_id": "i0", "category_id": 1, "score": 0.5}


@pytest.mark.parametrize(
    "shape",
    [
        {"segmentation": [QUAD], "bbox": [0, 0, 1, 1]},
        {"segmentation": QUAD},
        {"bbox": [20, 15, 20, 10, 0.0]},
        {"bbox": [10, 10, 20, 10]},
        {"poly": QUAD, "rbox": [0, 0, 1, 1, 0], "category_id": 2},
        {"rbox": [20, 15, 20, 10, 0], "category_id": 2},
        {"bbox": [10, 10, 20, 10], "segmentation": {"counts": "…", "size": [1, 1]}},
    ],
)
def test_json_shapes(tmp_path: Path, shape: dict[str, Any]) -> None:
    listing = records(tmp_path, ROW | shape)
    assert listing.horizontal == (shape.get("bbox", [0])[2:] == [20, 10])
    np.testing.assert_allclose(listing.quads.reshape(-1), QUAD, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"score": None}, "no score"),
        ({"score": 2}, "the score 2 is not in 0…1"),
        ({"score": True}, "no score"),
        ({"image_id": None}, "no image_id or no category_id"),
        ({"bbox": [1, 2, 3]}, "a hull of 3 numbers"),
        ({"bbox": [1, 2, -3, 4]}, "has a negative side"),
        ({"bbox": [1, 2, 3, "4"]}, "something that is not a number"),
        ({"bbox": [1, 2, 3, 4, 90]}, "not in radians"),
        ({"segmentation": [[1, 2, 3, 4, 5, 6]]}, "a quad of 6 numbers"),
        ({"image_id": "i9"}, "no image 'i9' in the ground truth"),
        ({"category_name": 7}, "category_name is '7'"),
    ],
)
def test_bad_records_are_named(tmp_path: Path, change: dict[str, Any], fault: str) -> None:
    good = ROW | {"bbox": [10, 10, 20, 10]}
    with pytest.raises(DataError) as caught:
        case_from_files(numbered(), records(tmp_path, good, good | change))
    assert f"{tmp_path}/out.json: record 2: " in str(caught.value)
    assert fault in str(caught.value)


def test_nan_in_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text('[{"image_id": "i0", "category_id": 1, "score": NaN, "bbox": [1, 2, 3, 4]}]')
    assert "record 1: the score nan is not in 0…1" in refused(tmp_path / "out.json", numbered())


@pytest.mark.parametrize(
    ("used", "names"), [((0, 1), ("ship", "plane")), ((1, 2), ("ship", "plane")), ((0,), ("ship",)), ((2,), ("plane",))]
)
def test_ultralytics_category_ids_count_from_0_or_1(
    tmp_path: Path, used: tuple[int, ...], names: tuple[str, ...]
) -> None:
    rows = [{**ROW, "category_id": k, "poly": QUAD} for k in used]
    listing = records(tmp_path, *rows)
    assert tuple(listing.classes[k] for k in listing.label) == names


def test_category_ids_that_could_mean_either_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="may count from 0 or from 1"):
        records(tmp_path, {**ROW, "category_id": 1, "poly": QUAD})


def test_numbers_of_images_are_names_without_zeros() -> None:
    row = {**ROW, "category_name": "ship", "bbox": [1, 2, 3, 4]}
    source = Source("r.json", "r.json", json.dumps([{**row, "image_id": k} for k in (7, 8, 12)]).encode())
    assert read_records(source, Ids(stems=("0007", "08", "8"))).images == ("0007", "8", "12")


def test_file_names_come_first() -> None:
    row = {**ROW, "category_name": "ship", "bbox": [1, 2, 3, 4], "image_id": 3, "file_name": "a/b\\c.x.png"}
    assert read_records(Source("r.json", "r.json", json.dumps([row]).encode()), Ids()).images == ("c.x",)


def test_ids_of_a_coco_ground_truth(tmp_path: Path) -> None:
    categories = [{"id": 5, "name": "ship"}, {"id": 9, "name": "plane"}]
    content = {"images": [{"id": 41, "file_name": "i0.png"}], "annotations": [], "categories": categories}
    (tmp_path / "gt").mkdir()
    (tmp_path / "gt" / "train.json").write_text(json.dumps(content))
    truth = indexed([(40, 50)], [[]], format="coco", root=tmp_path / "gt")
    listing = records(tmp_path, {**ROW, "image_id": 41, "category_id": 9, "bbox": [1, 2, 3, 4]}, truth=truth)
    assert (listing.images, listing.classes) == (("i0",), ("plane",))
    with pytest.raises(DataError, match=r"unknown category_id 1: .*: the ids are 5 ship, 9 plane"):
        records(tmp_path, {**ROW, "image_id": 41, "bbox": [1, 2, 3, 4]}, truth=truth)


@pytest.mark.parametrize("form", ["dota", "coco", "yolo"])
def test_what_fledge_writes_is_read_back(tmp_path: Path, form: str) -> None:
    boxes = torch.tensor([[20.0, 15.0, 20.0, 10.0, 0.5], [30.0, 20.0, 12.0, 6.0, -1.0]])
    found = [
        Detections(boxes, torch.tensor([0.75, 0.5]), torch.tensor([1, 0]), ("ship", "plane"), Frame("i1", (40, 50))),
        Detections(boxes[:0], torch.zeros(0), torch.zeros(0, dtype=torch.int64), ("ship", "plane"), Frame("i0")),
    ]
    write_detections(found, tmp_path / form, form)
    case = case_from_files(TRUTH, read_results(tmp_path / form, TRUTH))
    order = np.argsort(-case.found.score)
    assert case.found.image.tolist() == [1, 1]
    assert case.found.label[order].tolist() == [1, 0]
    assert case.found.score[order].tolist() == [0.75, 0.5]
    np.testing.assert_allclose(case.found.boxes[order], boxes, atol=0.02)


@pytest.mark.parametrize("name", ["found.gpkg", "found.geojson"])
def test_results_for_a_map_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_bytes(b"{}")
    for path in (tmp_path / "out", tmp_path / "out" / name):
        with pytest.raises(DataError, match=r"results for a map: .*: let `fledge detect` write dota, coco or yolo"):
            read_results(path, TRUTH)


def test_objects_are_as_labelled() -> None:
    concave = [[0, 0], [10, 10], [20, 0], [10, 30]]
    truth = indexed([(40, 50)] * 3, [[], [concave, concave], [rectangle(20, 15, 20, 10)]])
    objects = objects_of(truth)
    assert objects.image.tolist() == [1, 1, 2]
    assert objects.quads[:2].tolist() == [concave, concave]  # twice is twice


def test_nothing_found_is_no_error(tmp_path: Path) -> None:
    case = case_from_files(TRUTH, read_results(put(tmp_path / "r", Task1_ship="", Task1_plane="\n"), TRUTH))
    assert len(case.found) == 0
    assert case.found.quads.shape == (0, 4, 2)
    (tmp_path / "out.json").write_text("[]")
    assert len(read_results(tmp_path / "out.json", TRUTH)) == 0


LINES = st.lists(
    st.lists(
        st.one_of(st.sampled_from(["i0", "0.5", "1", "nan", "1e400", "１", "-", "2 3"]), st.text(max_size=4)),
        max_size=12,
    ),
    max_size=6,
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just(QUAD)),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=8,
)
KEYS = ("image_id", "category_id", "category_name", "file_name", "score", "bbox", "segmentation", "poly", "rbox")


def only_data_errors(read: Callable[[], Listing], place: str) -> None:
    """Read; whatever goes wrong is a DataError that names the file."""
    try:
        found_of(read(), TRUTH.ids, TRUTH.classes)
    except DataError as error:
        assert place in str(error)  # noqa: PT017


@settings(max_examples=150)
@given(lines=LINES, task=st.sampled_from([1, 2]), raw=st.binary(max_size=20))
def test_any_task_text_is_read_or_refused_with_its_line(lines: list[list[str]], task: int, raw: bytes) -> None:
    text = "\n".join(" ".join(fields) for fields in lines).encode() + raw
    source = Source(f"Task{task}_ship.txt", f"at/Task{task}_ship.txt", text)
    only_data_errors(lambda: read_task_files([source], task, "at"), f"at/Task{task}_ship.txt:")


NUMBERS = st.floats(-1e6, 1e6).map(lambda v: f"{v:.3f}") | st.sampled_from(["1e3", "-2.5E-1", "+7", ".5", "3."])
GOOD = st.tuples(
    st.sampled_from(["i0", "a_b", "é", "#"]),
    st.floats(0, 1).map(repr),
    st.lists(NUMBERS, min_size=8, max_size=8),
    st.sampled_from(["\n", "\r\n", "\n\n", " \n"]),
)


@settings(max_examples=60)
@given(rows=st.lists(GOOD, max_size=6), space=st.sampled_from([" ", "\t", "  "]))
def test_whole_files_and_single_lines_are_read_alike(rows: list[tuple[str, str, list[str], str]], space: str) -> None:
    """A bad last line makes the reader look at every line: the others are what they are without it."""
    data = "".join(space.join([name, score, *numbers]) + end for name, score, numbers, end in rows).encode()
    problems: list[LabelProblem] = []
    layout = Layout("form", 10, 0, lambda _, n: sound(n[:, 0], n[:, 1:]), lambda *_: None)
    fast = read_table(Source("f", "f", data), layout, problems)
    assert not problems
    slow = read_table(Source("f", "f", data + b"\nbad\n"), layout, problems)
    assert len(problems) == 1
    assert fast.first == slow.first
    assert fast.numbers.tolist() == slow.numbers.tolist()
    assert fast.lines.tolist() == slow.lines.tolist()


@settings(max_examples=150)
@given(lines=LINES, raw=st.binary(max_size=20))
def test_any_label_text_is_read_or_refused_with_its_line(lines: list[list[str]], raw: bytes) -> None:
    text = "\n".join(" ".join(fields) for fields in lines).encode() + raw
    source, sizes = Source("i0.txt", "at/i0.txt", text), {"i0": (40, 50)}
    only_data_errors(lambda: read_label_files([source], {0: "ship", 1: "plane"}, sizes, "at"), "at/i0.txt:")


@settings(max_examples=200)
@given(
    rows=st.lists(st.one_of(VALUES, st.dictionaries(st.sampled_from(KEYS), VALUES)), max_size=3),
    raw=st.binary(max_size=3),
)
def test_any_json_is_read_or_refused_with_its_record(rows: list[Any], raw: bytes) -> None:
    data = json.dumps(rows).encode() + raw
    only_data_errors(lambda: read_records(Source("r.json", "at/r.json", data), Ids(names=TRUTH.classes)), "at/r.json")
