"""HIT-UAV: thermal drone images with oriented boxes in json (Suo et al., Scientific Data 10, 227, 2023).

``bbox`` is [cx, cy, w, h, angle]: pixels, radians from 0 to pi, image axes, w not always the long side. ``DontCare``
is no class: its boxes become ignored objects. The published split is random over video frames and leaks between its
parts; splits by the ``date`` of the images do not. ``hit_uav_xml`` reads the same labels in XML.
"""

from __future__ import annotations

from pathlib import Path

from fledge.data.catalogue.hit_uav import HIT_UAV_CLASSES
from fledge.data.datasets.draft import Draft
from fledge.data.datasets.json_labels import Dialect, JsonLabels, load_json, rotated_box
from fledge.data.labels import class_key
from fledge.errors import DataError

TREE = """\
HIT-UAV json:   ROOT/SPLIT.json with ROOT/images/NAME.jpg
                or ROOT/[rotate_json/]annotations/SPLIT.json with ROOT/[rotate_json/]SPLIT/NAME.jpg
                "bbox": [cx, cy, w, h, angle in radians]"""

DONT_CARE = class_key("DontCare")


def parse_hit_uav(root: Path, split: str) -> Draft:
    """One split of HIT-UAV or of a dataset written in its json form; ``split`` is the json file's stem.

    Raises:
        DataError: files are missing or the json is damaged.
    """
    path, folder = _locate(root, split)
    remedy = f"use the files of rotate_json (those of normal_json have horizontal boxes)\n{TREE}"
    content = load_json(path, "HIT-UAV", remedy)
    draft = Draft(root, split, "hit_uav", files=[path])
    JsonLabels(draft, content, _DIALECT).read(lambda _: folder)
    # `fledge convert` lists the classes of what it writes in this form.
    own = content.get("classes")
    draft.listed = tuple(map(str, own)) if isinstance(own, list) and own else HIT_UAV_CLASSES
    return draft


def hit_uav_splits(root: Path) -> tuple[str, ...]:
    """The splits found: json files whose images have a ``filename`` (COCO's own files say ``file_name``)."""
    found = [*root.glob("*.json"), *root.glob("annotations/*.json"), *root.glob("rotate_json/annotations/*.json")]
    return tuple(sorted({path.stem for path in found if _looks_right(path)}))


def _looks_right(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return b'"filename"' in file.read(4096)
    except OSError:
        return False


def _locate(root: Path, split: str) -> tuple[Path, Path]:
    """The json file and the folder of its images."""
    for base in (root, root / "rotate_json"):
        for json_path, folder in (
            (base / f"{split}.json", base / "images"),
            (base / "annotations" / f"{split}.json", base / split),
        ):
            if json_path.is_file() and folder.is_dir():
                return json_path, folder
    raise DataError(f"no HIT-UAV split {split!r}: {root}: make it look like this:\n{TREE}")


def _file_fault(name: object) -> str:
    # A name that is a path could reach outside the dataset.
    plain = isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\\0")
    return "" if plain else f"is {name!r}"


_DIALECT = Dialect(
    file_key="filename",
    file_fault=_file_fault,
    file_remedy="write the plain name of a file",
    shape=lambda entry: rotated_box(entry.get("bbox")),
    ignored=lambda _, name: class_key(name) == DONT_CARE,
)
