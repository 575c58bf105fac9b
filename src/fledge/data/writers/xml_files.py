"""What the XML writers share: one file an image, and Pascal VOC's folders.

``ROOT/JPEGImages/NAME``, ``ROOT/ImageSets/Main/SPLIT.txt`` with the names of a split, and ``STEM.xml`` in a folder of
annotations. XML names classes by their objects only, and has no word for an ignored object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from fledge.data.labels import DetectionDataset
from fledge.data.raster import IMAGE_SUFFIXES
from fledge.data.staging import place

EDGES = ("xmin", "ymin", "xmax", "ymax")
NUMBERED = tuple(f"{axis}{corner}" for corner in range(1, 5) for axis in "xy")
"""The tags of four corners, x1 to y4."""

# From the row of an object to its box, as tags and numbers within an element of a name.
BoxOf = Callable[[int], tuple[str, Sequence[tuple[str, float]]]]


def image_folder(_: str) -> str:
    """Where the images lie, below the root: those of all splits in one folder."""
    return "JPEGImages"


def write_xml(root: Path, dataset: DetectionDataset, folder: str, names: Sequence[str], box_of: BoxOf) -> None:
    """Write the list of a split and one XML file an image, in Pascal VOC's folders.

    Args:
        root: the dataset's folder.
        dataset: the split.
        folder: that of the annotations, below the root.
        names: the class (T,) of each object; an object without one is left out.
        box_of: its box.
    """
    write_annotations(root / folder, dataset, names, lambda row: element(*box_of(row)))
    write_list(root / "ImageSets" / "Main", dataset, [path.stem for path in dataset.paths])


def write_annotations(
    folder: Path, dataset: DetectionDataset, names: Sequence[str], content_of: Callable[[int], str], head: str = ""
) -> None:
    """Write one XML file an image, with the tags that Pascal VOC has.

    Args:
        folder: where the files go.
        dataset: the split.
        names: the class (T,) of each object; an object without one is left out.
        content_of: from the row of an object to what stands beside its name.
        head: what stands before the size of the image, as XML.
    """
    for i, path in enumerate(dataset.paths):
        height, width = dataset.sizes[i].tolist()
        rows = range(int(dataset.offsets[i]), int(dataset.offsets[i + 1]))
        objects = [_object(names[r], bool(dataset.difficult[r]), content_of(r)) for r in rows if names[r]]
        lines = [
            "<annotation>",
            f"  <filename>{escape(path.name)}</filename>",
            *([f"  {head}"] if head else []),
            f"  <size><width>{width}</width><height>{height}</height></size>",
            *objects,
            "</annotation>",
        ]
        place(folder / f"{path.stem}.xml", ("\n".join(lines) + "\n").encode())


def write_list(folder: Path, dataset: DetectionDataset, names: Sequence[str]) -> None:
    """Write the list of a split's images, one name a line.

    A name that ends like an image file (that of ``a.png.tif``) gets the suffix of its file: readers take one off.
    """
    lines = [
        f"{name}{path.suffix}\n" if Path(name).suffix.lower() in IMAGE_SUFFIXES else f"{name}\n"
        for name, path in zip(names, dataset.paths, strict=True)
    ]
    place(folder / f"{dataset.split}.txt", "".join(lines).encode())


def names_of(dataset: DetectionDataset, ignored: str = "") -> list[str]:
    """The class name (T,) of each object, and that of the ignored ones."""
    columns = zip(dataset.labels.tolist(), dataset.ignore.tolist(), strict=True)
    return [ignored if ignore else dataset.classes[label] for label, ignore in columns]


def element(name: str, numbers: Sequence[tuple[str, float]]) -> str:
    """An element of numbers, each under its tag."""
    return f"<{name}>{tagged(numbers)}</{name}>"


def tagged(numbers: Sequence[tuple[str, float]]) -> str:
    """Numbers, each under its tag."""
    return "".join(f"<{tag}>{number(value)}</{tag}>" for tag, value in numbers)


def number(value: float) -> str:
    """To a millionth, without zeros at the end; whole numbers as such."""
    text = f"{value:.6f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _object(name: str, difficult: bool, content: str) -> str:
    return f"  <object><name>{escape(name)}</name><difficult>{int(difficult)}</difficult>\n    {content}</object>"
