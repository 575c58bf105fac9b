"""What the XML writers share: Pascal VOC's folders, with one file an image.

``ROOT/JPEGImages/NAME``, ``ROOT/ImageSets/Main/SPLIT.txt`` with the names of a split, and ``STEM.xml`` in a folder of
annotations. XML names classes by their objects only, and has no word for an ignored object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from fledge.data.labels import DetectionDataset
from fledge.data.staging import place

# From the row of an object to its box, as tags and numbers within an element of a name.
BoxOf = Callable[[int], tuple[str, Sequence[tuple[str, float]]]]


def image_folder(_: str) -> str:
    """Where the images lie, below the root: those of all splits in one folder."""
    return "JPEGImages"


def write_xml(root: Path, dataset: DetectionDataset, folder: str, names: Sequence[str], box_of: BoxOf) -> None:
    """Write the list of a split and one XML file an image.

    Args:
        root: the dataset's folder.
        dataset: the split.
        folder: that of the annotations, below the root.
        names: the class (T,) of each object; an object without one is left out.
        box_of: its box.
    """
    for i, path in enumerate(dataset.paths):
        height, width = dataset.sizes[i].tolist()
        rows = range(int(dataset.offsets[i]), int(dataset.offsets[i + 1]))
        objects = [_object(names[r], bool(dataset.difficult[r]), *box_of(r)) for r in rows if names[r]]
        lines = [
            "<annotation>",
            f"  <filename>{escape(path.name)}</filename>",
            f"  <size><width>{width}</width><height>{height}</height></size>",
            *objects,
            "</annotation>",
        ]
        place(root / folder / f"{path.stem}.xml", ("\n".join(lines) + "\n").encode())
    stems = "".join(f"{path.stem}\n" for path in dataset.paths)
    place(root / "ImageSets" / "Main" / f"{dataset.split}.txt", stems.encode())


def names_of(dataset: DetectionDataset, ignored: str = "") -> list[str]:
    """The class name (T,) of each object, and that of the ignored ones."""
    columns = zip(dataset.labels.tolist(), dataset.ignore.tolist(), strict=True)
    return [ignored if ignore else dataset.classes[label] for label, ignore in columns]


def _object(name: str, difficult: bool, element: str, numbers: Sequence[tuple[str, float]]) -> str:
    box = "".join(f"<{tag}>{number(value)}</{tag}>" for tag, value in numbers)
    return (
        f"  <object><name>{escape(name)}</name><difficult>{int(difficult)}</difficult>\n"
        f"    <{element}>{box}</{element}></object>"
    )


def number(value: float) -> str:
    """To a millionth, without zeros at the end; whole numbers as such."""
    text = f"{value:.6f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
