"""What the readers of XML labels share: one file per image, and lists of names that say which images are in a split.

The trees are those of Pascal VOC and its kin: a folder of lists, and folders of images and of annotations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from fledge.data.datasets.draft import Draft, Row, StatedSize
from fledge.data.datasets.folders import image_files, unique_stems
from fledge.data.datasets.text_labels import BadLabelError, decimal
from fledge.data.datasets.xml_tree import Node, load_xml
from fledge.data.labels import LabelProblem
from fledge.data.raster import IMAGE_SUFFIXES
from fledge.errors import DataError

_DIFFICULT = {"0": False, "1": True, "": None}
_FILES_TRIED = 200


class XmlForm(NamedTuple):
    """One kind of XML label file and where it lies.

    Attributes:
        format: the key of the format.
        mark: a tag that every file with objects has and no other kind has.
        bases: folders under the root that may hold the others.
        images: names of image folders; all that exist are used.
        annotations: names of label folders, the same.
        objects: the tag of an object.
        size: the tags of the image's width and height, and of the element around them ("" for the root).
        row: one object, with image, file and place still to be filled in; raises BadLabelError.
    """

    format: str
    mark: bytes
    bases: tuple[str, ...]
    images: tuple[str, ...]
    annotations: tuple[str, ...]
    objects: str
    size: tuple[str, str, str]
    row: Callable[[Node], Row]


def xml_splits(root: Path, form: XmlForm) -> tuple[str, ...]:
    """The names of the lists under a root that holds labels of this form.

    A list ``trainval`` beside ``train`` and ``val`` is left out: it repeats them.
    """
    names = set(_lists(root, form))
    if not names or not _has_mark(root, form):
        return ()
    return tuple(sorted(names - ({"trainval"} if {"train", "val"} <= names else set())))


def parse_xml(root: Path, split: str, form: XmlForm, tree: str) -> Draft:
    """One split: the images named by its list, with the XML file of each.

    Raises:
        DataError: there is no such list, it is empty, or two image files share a name.
    """
    names = _lists(root, form).get(split)
    if names is None:
        raise DataError(f"no split {split!r}: {root}: make it look like this:\n{tree}")
    draft = Draft(root, split, form.format)
    folders = _existing(root, form.bases, form.images)
    for folder in folders:
        unique_stems(image_files(folder) or [folder])
    images = {path.stem: path for folder in reversed(folders) for path in image_files(folder)}
    chosen = _listed_images(draft, names, images)
    labels = _existing(root, form.bases, form.annotations)
    found = {path.stem: path for folder in reversed(labels) for path in folder.glob("*.xml")}
    draft.images += chosen
    draft.unlabelled = ([path.name for path in chosen if path.stem not in found], labels[0] if labels else root)
    for image, path in enumerate(chosen):
        if path.stem in found:
            _read_file(draft, image, found[path.stem], form)
    return draft


def numbers(node: Node, tags: Sequence[str]) -> tuple[float, ...]:
    """The numbers in children of a node, by their tags.

    Raises:
        BadLabelError: one is missing or no number.
    """
    texts = [(tag, node.value(tag)) for tag in tags]
    missing = [tag for tag, text in texts if not text]
    if missing:
        raise BadLabelError(f"{node.tag} lacks {', '.join(missing)}", f"write all of {', '.join(tags)}", "fields")
    return tuple(decimal(text, tag, "write it as a decimal number in pixels or radians") for tag, text in texts)


def difficult_of(node: Node) -> bool | None:
    """The ``difficult`` of an object; None where it is missing.

    Raises:
        BadLabelError: it is neither 0 nor 1.
    """
    text = node.value("difficult")
    if text not in _DIFFICULT:
        raise BadLabelError(f"difficult is {text[:64]!r}", "write 0 or 1", "difficult")
    return _DIFFICULT[text]


def child(node: Node, tag: str) -> Node:
    """The first child with a tag.

    Raises:
        BadLabelError: there is none.
    """
    found = node.find(tag)
    if found is None:
        raise BadLabelError(f"{node.tag} has no {tag}", f"label oriented boxes: add {tag}", "fields")
    return found


def class_of(node: Node) -> str:
    """The name of an object.

    Raises:
        BadLabelError: it has none.
    """
    name = node.value("name")
    if not name:
        raise BadLabelError("object has no name", "add its class as <name>", "class name")
    return name


def _existing(root: Path, bases: Sequence[str], names: Sequence[str]) -> list[Path]:
    folders = [root / base / name for base in bases for name in names]
    return [folder for folder in folders if folder.is_dir()]


def _lists(root: Path, form: XmlForm) -> dict[str, Path]:
    """From split to the list of its images."""
    folders = _existing(root, form.bases, ("ImageSets/Main", "ImageSets"))
    return {path.stem: path for folder in reversed(folders) for path in sorted(folder.glob("*.txt"))}


def _has_mark(root: Path, form: XmlForm) -> bool:
    """Whether one of the first label files with objects is of this form."""
    for folder in _existing(root, form.bases, form.annotations):
        for path in islice(folder.glob("*.xml"), _FILES_TRIED):
            try:
                text = path.read_bytes()
            except OSError:
                continue
            if form.mark in text:
                return True
    return False


def _listed_images(draft: Draft, path: Path, images: dict[str, Path]) -> list[Path]:
    """The image files that a list names, one name a line; an unknown or repeated one is noted as damage."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read list: {path}: {error}: save it as UTF-8 text") from error
    chosen: dict[str, Path] = {}
    for number, name in enumerate(map(str.strip, lines), start=1):
        stem = name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in IMAGE_SUFFIXES else name
        if stem and (stem in chosen or stem not in images):
            what = f"{name[:64]!r} {'is listed twice' if stem in chosen else 'has no image file'}"
            draft.damage.append(LabelProblem(f"{path}:{number}", what, "correct the list", "list"))
        elif stem:
            chosen[stem] = images[stem]
    if not chosen and not draft.damage:
        raise DataError(f"no images: {path}: the list is empty: name one image a line")
    return list(chosen.values())


def _read_file(draft: Draft, image: int, path: Path, form: XmlForm) -> None:
    draft.files.append(path)
    root = load_xml(path)
    if isinstance(root, LabelProblem):
        draft.damage.append(root)
        return
    around, width, height = form.size
    size = root.find(around) if around else root
    if size and (size.value(width) or size.value(height)):
        line = (size.find(width) or size).line
        draft.stated[image] = StatedSize(f"{path}:{line}", *map(_whole, (size.value(width), size.value(height))))
    for node in root.all(form.objects):
        try:
            row = form.row(node)
        except BadLabelError as bad:
            draft.fault(f"{path}:{node.line}", bad.what, bad.remedy, bad.kind)
        else:
            draft.rows.append(row._replace(image=image, file=len(draft.files) - 1, place=node.line))


def _whole(text: str) -> object:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text
