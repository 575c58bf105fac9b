"""The table of known datasets: what the facts promise, and that the readers agree with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from tests.data.miniatures import MINIATURES, SECOND

from fledge.data.catalogue import CATALOGUE, KnownDataset
from fledge.data.catalogue.known import Shape, Task
from fledge.data.datasets import FORMATS, open_dataset
from fledge.data.labels import class_index
from fledge.recipe import shipped_recipes

DETECTION = {key: known for key, known in CATALOGUE.items() if known.task == "detection"}
# Images, objects and classes as five papers give them.
PUBLISHED = {
    "dota-v1.0": (2806, 188_282, 15),
    "dior": (23_463, 192_472, 20),
    "dior-r": (23_463, 192_518, 20),
    "ohd-sjtu-s": (43, 4125, 2),
    "ohd-sjtu-l": (None, 113_435, 6),
    "sar-aircraft-1.0": (4368, 16_463, 7),
    "shiprsimagenet-v1.0": (3435, 17_573, 50),
}


@pytest.mark.parametrize("known", CATALOGUE.values(), ids=lambda known: known.key)
def test_every_entry_is_whole(known: KnownDataset) -> None:
    assert CATALOGUE[known.key] is known
    assert re.fullmatch(r"[a-z0-9.\-]+", known.key), "it is an argument of a command"
    assert known.task in get_args(Task)
    assert set(known.shapes) <= set(get_args(Shape))
    assert known.page.startswith(("https://", "http://")) or not known.page
    assert known.title
    assert known.tree
    assert set(known.unverified) <= set(KnownDataset.__dataclass_fields__)
    assert set(known.class_counts) <= set(known.classes)
    for names in (known.classes, *known.levels.values()):
        assert not names or len(class_index(names)) == len(names)
    for key in known.overlaps:
        assert known.key in CATALOGUE[key].overlaps, "each says so"
    for count in known.counts:
        assert count.images or count.objects
    if known.recipes:
        assert any(Path(name).match(known.recipes) for name in shipped_recipes())


@pytest.mark.parametrize("known", DETECTION.values(), ids=lambda known: known.key)
def test_detection_sets_have_a_reader_that_knows_their_classes(known: KnownDataset, tmp_path: Path) -> None:
    assert known.format in FORMATS
    assert known.format not in SECOND, "opened without being named"
    assert known.shapes
    MINIATURES[known.format](tmp_path)
    found = open_dataset(tmp_path, "train").classes
    if known.format not in ("voc", "dota", "ohd_sjtu"):  # of several datasets, of which the miniature shows one
        assert set(found) <= set(known.classes)
    order = [known.classes.index(name) for name in found if name in known.classes]
    assert order == sorted(order)


@pytest.mark.parametrize("key", PUBLISHED)
def test_published_counts(key: str) -> None:
    known, (images, objects, classes) = CATALOGUE[key], PUBLISHED[key]
    total = known.counts_of()
    assert (images, objects) in [(count.images, count.objects) for count in total if count.verified]
    assert len(known.classes) == classes


@pytest.mark.parametrize(
    ("key", "splits"),
    [
        ("dota-v1.0", ("train", "val", "test")),
        ("dota-v1.5", ("train", "val", "test")),
        ("dior", ("trainval", "test")),
        ("dior", ("train", "val", "test")),
        ("hrsc2016", ("train", "val", "test")),
        ("hrsc2016", ("trainval", "test")),
        ("hrrsd", ("train", "val", "test")),
        ("hit-uav", ("train", "val", "test")),
        ("ohd-sjtu-s", ("trainval", "test")),
        ("sar-aircraft-1.0", ("train", "test")),
        ("ucas-aod", ("train", "val", "test")),
        ("ssdd", ("train", "test")),
        ("rsdd-sar", ("train", "test")),
        ("shiprsimagenet-v1.0", ("train", "val", "test")),
    ],
)
def test_splits_add_up_to_the_whole(key: str, splits: tuple[str, ...]) -> None:
    known = CATALOGUE[key]
    for figure in ("images", "objects"):
        parts = [[getattr(c, figure) for c in known.counts_of(split) if getattr(c, figure)] for split in splits]
        if all(parts):
            assert sum(part[0] for part in parts) in [getattr(count, figure) for count in known.counts_of()]


@pytest.mark.parametrize("known", CATALOGUE.values(), ids=lambda known: known.key)
def test_classes_add_up_to_the_whole(known: KnownDataset) -> None:
    if known.class_counts and known.task == "detection":
        others = {"hit-uav": 148}.get(known.key, 0)  # regions to ignore
        assert sum(known.class_counts.values()) + others in [count.objects for count in known.counts_of()]


def test_the_trap_lists_of_the_catalogue_are_kept() -> None:
    """Orders that tools disagree on, as their own lists have them."""
    dota, dior = CATALOGUE["dota-v2.0"].classes, CATALOGUE["dior"].classes
    assert dota[:3] == ("plane", "baseball-diamond", "bridge")
    assert dota[15:] == ("container-crane", "airport", "helipad")
    assert dior[6:9] == ("Expressway-Service-area", "Expressway-toll-station", "dam")
    assert "A320/321" in CATALOGUE["sar-aircraft-1.0"].classes
    assert [len(names) for names in CATALOGUE["shiprsimagenet-v1.1"].levels.values()] == [2, 4, 25, 50]
