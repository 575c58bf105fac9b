"""What the readers of XML labels share: one file per image, and lists of names that say which images are in a split.

The trees are those of Pascal VOC and its kin: a folder of lists, and folders of images and of annotations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from fledge.data.datasets.draft import Draft, Row, StatedSize
from fledge.data.datasets.folders import images_by_stem, list_names, listed_images, split_lists
from fledge.data.datasets.text_labels import BadLabelError, decimal
from fledge.data.datasets.xml_tree import Node, load_xml
from fledge.data.labels import LabelProblem
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
    """The names of the lists under a root that holds labels of this form."""
    names = _lists(root, form)
    return list_names(names) if names and has_mark(existing(root, form.bases, form.annotations), form.mark) else ()


def parse_xml(root: Path, split: str, form: XmlForm, tree: str) -> Draft:
    """One split: the images named by its list, with the XML file of each.

    Raises:
        DataError: there is no such list, it is empty, or two image files share a name.
    """
    names = _lists(root, form).get(split)
    if names is None:
        raise DataError(f"no split {split!r}: {root}: make it look like this:\n{tree}")
    draft = Draft(root, split, form.format)
    chosen, problems = listed_images(names, images_by_stem(existing(root, form.bases, form.images)))
    draft.damage += problems
    read_labels(draft, list(chosen.values()), existing(root, form.bases, form.annotations), form)
    return draft


def read_labels(draft: Draft, images: Sequence[Path], folders: Sequence[Path], form: XmlForm) -> None:
    """Add images to a draft, with the objects of the XML file that each has in one of some folders."""
    found = {path.stem: path for folder in reversed(folders) for path in folder.glob("*.xml")}
    missing = [path.name for path in images if path.stem not in found]
    names, folder = draft.unlabelled
    draft.unlabelled = (names + missing, folder if names else next(iter(folders), draft.root))
    for path in images:
        draft.images.append(path)
        if path.stem in found:
            _read_file(draft, len(draft.images) - 1, found[path.stem], form)


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


def existing(root: Path, bases: Sequence[str], names: Sequence[str]) -> list[Path]:
    """Those folders ``root/base/name`` that are there."""
    folders = [root / base / name for base in bases for name in names]
    return [folder for folder in folders if folder.is_dir()]


def has_mark(folders: Sequence[Path], mark: bytes) -> bool:
    """Whether one of the first XML files in some folders has a tag."""
    for folder in folders:
        for path in islice(folder.glob("*.xml"), _FILES_TRIED):
            try:
                text = path.read_bytes()
            except OSError:
                continue
            if mark in text:
                return True
    return False


def _lists(root: Path, form: XmlForm) -> dict[str, Path]:
    return split_lists(existing(root, form.bases, ("ImageSets/Main", "ImageSets")))


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
