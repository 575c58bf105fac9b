"""Labels in coordinates of the world over georeferenced rasters: GeoJSON and GeoPackage polygons.

Each polygon has a property ``class``, and may have ``difficult`` and ``image``. It is brought from its reference system
to the raster's and into pixels by the raster's transform, rotation included. Four corners stay as they are; of any
other number comes the rectangle of least area around them. Holes do not matter.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from fledge.data.datasets.draft import Draft, Row, first_few
from fledge.data.datasets.folders import images_by_stem
from fledge.data.datasets.geo_files import SUFFIXES, Feature, GeoLabels, read_geo
from fledge.data.datasets.polygons import AROUND, smallest_rectangle
from fledge.data.georeference import Georeference, read_georeference
from fledge.data.labels import FARTHEST
from fledge.data.raster import IMAGE_SUFFIXES, read_size
from fledge.errors import DataError

TREE = """\
GeoJSON or      ROOT/SPLIT/images/NAME.tif          GeoTIFF
GeoPackage:     ROOT/SPLIT/labels/NAME.geojson      (or NAME.gpkg) with the polygons of each image,
                or ROOT/SPLIT/labels.geojson        (or labels.gpkg) with the polygons of all images
                properties: class, and image (NAME) where a polygon belongs to one image of several that show it"""

_NOWHERE = "polygons in no image, left out"


def parse_geo(root: Path, split: str) -> Draft:
    """One split of georeferenced images with polygons.

    In a file for all images a polygon belongs to the image that its property ``image`` names, without one to every
    image that holds the mean of its corners; polygons in no image are counted in the notes.

    Raises:
        DataError: files are missing or damaged, an image has no georeference, or a label file has no image.
    """
    folder = root / split
    if split not in geo_splits(root):
        raise DataError(f"no split {split!r}: {root}: make it look like this:\n{TREE}")
    images = images_by_stem([folder / "images"])
    if not images:
        raise DataError(f"no images: {folder / 'images'}: put the split's images there")
    draft = Draft(root, split, "geo", list(images.values()))
    single = _one_file(folder)
    if single is not None:
        _read_common(draft, single, list(images))
    else:
        _read_each(draft, folder / "labels", list(images))
    draft.rows.sort(key=lambda row: row.image)
    return draft


def geo_splits(root: Path) -> tuple[str, ...]:
    """The sub-folders with images and label files in world coordinates."""
    folders = [folder for folder in root.iterdir() if (folder / "images").is_dir()] if root.is_dir() else []
    return tuple(sorted(f.name for f in folders if _one_file(f) is not None or _files(f / "labels")))


def _one_file(folder: Path) -> Path | None:
    return next((path for suffix in SUFFIXES if (path := folder / f"labels{suffix}").is_file()), None)


def _files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES}


def _read_each(draft: Draft, folder: Path, stems: list[str]) -> None:
    """A label file for each image."""
    files = _files(folder)
    orphans = sorted(files.keys() - set(stems))
    if orphans:
        raise DataError(
            f"{len(orphans)} label files have no image: {folder}: {first_few(orphans)}: "
            "add the images or remove the label files"
        )
    draft.unlabelled = ([path.name for path in draft.images if path.stem not in files], folder)
    for image, stem in enumerate(stems):
        if stem in files:
            labels = _opened(draft, files[stem])
            pixels = _in_pixels(labels.features, labels, _place_of(draft.images[image], labels))
            for feature, points in zip(labels.features, pixels, strict=True):
                _add(draft, image, feature, points)


def _read_common(draft: Draft, path: Path, stems: list[str]) -> None:
    """One label file for all images."""
    labels = _opened(draft, path)
    named: dict[str, list[Feature]] = {stem: [] for stem in stems}
    free = [feature for feature in labels.features if not feature.image]
    for feature in labels.features:
        if feature.image and _stem(feature.image) not in named:
            what, remedy = f"image {feature.image[:64]!r} is not in the split", "name an image without its folder"
            draft.fault(f"{path}: {feature.place}", what, remedy, "image name")
        elif feature.image:
            named[_stem(feature.image)].append(feature)
    middles = _Middles(labels, np.array([feature.points.mean(axis=0) for feature in free]).reshape(-1, 2))
    used = np.zeros(len(free), dtype=np.bool_)
    for image, image_path in enumerate(draft.images):
        place = _place_of(image_path, labels)
        inside = middles.inside(place, read_size(image_path))
        used[inside] = True
        chosen = named[stems[image]] + [free[index] for index in np.flatnonzero(inside)]
        for feature, points in zip(chosen, _in_pixels(chosen, labels, place), strict=True):
            _add(draft, image, feature, points)
    draft.counts[_NOWHERE] += int((~used).sum())


class _Middles:
    """The mean corner of each of F features, brought only once to each reference system of the images."""

    def __init__(self, labels: GeoLabels, points: NDArray[np.float64]) -> None:
        self.crs, self.points = labels.crs, points
        self.moved: dict[str, NDArray[np.float64]] = {}

    def inside(self, place: Georeference | None, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Which (F,) lie in an image of that place, height and width."""
        pixels = self.points
        if place is not None and self.crs is not None:
            key = place.crs.to_wkt()
            if key not in self.moved:
                self.moved[key] = Georeference(place.crs, Affine.identity()).pixels(self.points, self.crs)
            pixels = place.pixels(self.moved[key], place.crs)
        within: NDArray[np.bool_] = np.all((pixels >= 0) & (pixels < size[::-1]), axis=1)
        return within


def _stem(name: str) -> str:
    return name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in IMAGE_SUFFIXES else name


def _opened(draft: Draft, path: Path) -> GeoLabels:
    labels = read_geo(path)
    draft.files.append(path)
    for place, bad in labels.faults:
        draft.fault(f"{path}: {place}", bad.what, bad.remedy, bad.kind)
    return labels


def _place_of(image: Path, labels: GeoLabels) -> Georeference | None:
    return None if labels.crs is None else read_georeference(image)


def _in_pixels(features: list[Feature], labels: GeoLabels, place: Georeference | None) -> list[NDArray[np.float64]]:
    """The corners (N, 2) of each feature in pixels of an image that lies at ``place``, all brought there at once."""
    corners = [feature.points for feature in features]
    if place is None or labels.crs is None or not corners:
        return corners
    moved = place.pixels(np.concatenate(corners), labels.crs)
    return np.split(moved, np.cumsum([len(points) for points in corners])[:-1])


def _add(draft: Draft, image: int, feature: Feature, points: NDArray[np.float64]) -> None:
    if not (np.abs(points) <= FARTHEST).all():
        what, remedy = "it lies nowhere near the image", "check its reference system and its image"
        draft.fault(f"{draft.files[-1]}: {feature.place}", what, remedy, "outside")
        return
    if len(points) == 4:
        shape = tuple(points.reshape(-1).tolist())
    else:
        shape = smallest_rectangle(points)
        draft.counts[AROUND] += 1
    draft.rows.append(Row(image, len(draft.files) - 1, feature.place, shape, feature.name, feature.difficult))
