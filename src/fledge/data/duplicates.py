"""Images that occur twice, in one split or in two: exactly (equal samples) or nearly (a perceptual hash).

The hash is the difference hash of N. Krawetz ("Kind of Like That", hackerfactor.com, 2013): an area-averaged grey
image of 9 × 8 pixels, and one bit for each pair of horizontal neighbours, set where brightness rises. It sees through
scaling, re-encoding and changes of brightness; it does not see through turns, flips and crops.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fledge.data.raster import Samples
from fledge.data.samples import read_stored
from fledge.data.splits import Advance
from fledge.data.threads import WORKERS, in_order
from fledge.errors import DataError

NEAR_BITS = 4
# Grey levels of 256 that the 9 x 8 means must span: below, the bits are noise (water, cloud, blank tiles).
FLAT = 6.0
# Five bands of a hash: of two hashes that differ in at most four bits, one band at least is equal.
_BANDS = ((0, 13), (13, 13), (26, 13), (39, 13), (52, 12))
_COARSE = 256
# Set bits of every 16-bit number.
_ONES = np.unpackbits(np.arange(2**16, dtype=np.uint16).view(np.uint8).reshape(-1, 2), axis=1).sum(
    axis=1, dtype=np.uint8
)


@dataclass(frozen=True, eq=False)
class Prints:
    """The fingerprints of n images.

    Attributes:
        names: the split of each.
        paths: the file of each.
        digests: of the samples as stored, 16 bytes each; b"" where the file cannot be read.
        hashes: (n,) uint64.
        usable: (n,) bool, whether the image was read and has enough contrast for its hash to mean something.
        faults: what could not be read, as messages.
    """

    names: tuple[str, ...]
    paths: tuple[Path, ...]
    digests: tuple[bytes, ...]
    hashes: NDArray[np.uint64]
    usable: NDArray[np.bool_]
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Twin:
    """An image, and the one it resembles most in another split or, earlier, in its own.

    Attributes:
        split, path: of the image.
        other_split, other: of the one it resembles.
        bits: how many of 64 differ.
        exact: whether all samples are equal.
    """

    split: str
    path: Path
    other_split: str
    other: Path
    bits: int
    exact: bool

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {**vars(self), "path": str(self.path), "other": str(self.other)}


def take_prints(
    images: Sequence[tuple[str, Path]], advance: Advance = lambda *_: None, workers: int = WORKERS
) -> Prints:
    """Fingerprint (split, file) pairs; a damaged file is noted and skipped.

    Args:
        images: the pairs.
        advance: called with the number of images done and the name of the last.
        workers: threads, each with one decoded image in memory; the result does not depend on their number.
    """
    digests, hashes, usable, faults = [], np.zeros(len(images), np.uint64), np.zeros(len(images), np.bool_), []
    prints = in_order(lambda i: _print_of(images[i][1]), len(images), workers)
    for i, (mark, hashes[i], usable[i], fault) in enumerate(prints):
        digests.append(mark)
        faults += [fault] if fault else []
        advance(i + 1, images[i][1].stem)
    names, paths = tuple(name for name, _ in images), tuple(path for _, path in images)
    return Prints(names, paths, tuple(digests), hashes, usable, tuple(faults))


def _print_of(path: Path) -> tuple[bytes, int, bool, str]:
    """Digest, hash, whether that means something, and what is wrong with the file, or ""."""
    try:
        samples = read_stored(path).samples
        return digest(samples), *difference_hash(samples), ""
    except DataError as error:
        return b"", 0, False, str(error)


def digest(samples: Samples) -> bytes:
    """16 bytes that stand for the samples, their type and shape: the same for any lossless file format."""
    state = hashlib.blake2b(f"{samples.dtype.str}{samples.shape}".encode(), digest_size=16)
    state.update(np.ascontiguousarray(samples).data)
    return state.digest()


def difference_hash(samples: Samples) -> tuple[int, bool]:
    """The 64-bit difference hash of (H, W, C) samples, and whether they have the contrast to bear one."""
    grey = _shrink(samples).mean(axis=2, dtype=np.float32)
    means = np.asarray(cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA), dtype=np.float64)
    depth = 256.0 if samples.dtype == np.uint8 else float(np.ptp(grey)) or 1.0
    bits = (means[:, 1:] > means[:, :-1]).ravel()
    value = int.from_bytes(np.packbits(bits).tobytes(), "big")
    return value, bool(np.ptp(means) >= FLAT * depth / 256)


def _shrink(samples: Samples) -> NDArray[np.float32]:
    """Area-averaged to at most ``_COARSE`` pixels a side, as float32; missing samples are 0."""
    height, width, bands = samples.shape
    size = min(_COARSE, width), min(_COARSE, height)
    small = [cv2.resize(np.nan_to_num(samples[..., k]), size, interpolation=cv2.INTER_AREA) for k in range(bands)]
    return np.asarray(np.stack(small, axis=-1), dtype=np.float32)


def find_twins(prints: Prints) -> list[Twin]:
    """One entry for each image and split in which it has a twin; within a split, only for the later of two images.

    Exact twins come first, then those with fewer differing bits.
    """
    splits = np.array(prints.names)
    pairs = _near_pairs(prints)
    found = []
    for first, second in combinations_with_replacement(dict.fromkeys(prints.names), 2):
        here, there = np.flatnonzero(splits == first), np.flatnonzero(splits == second)
        exact = _exact(prints, here, there)
        near = _near(prints, here, there, pairs)
        for image in there.tolist():
            same = image in exact
            if same or image in near:
                twin, bits = (exact[image], 0) if same else near[image]
                found.append(Twin(second, prints.paths[image], first, prints.paths[twin], bits, same))
    return sorted(found, key=lambda twin: (not twin.exact, twin.bits))


def _exact(prints: Prints, here: NDArray[np.int64], there: NDArray[np.int64]) -> dict[int, int]:
    """From image of ``there`` to the first of ``here`` with the same samples (an earlier one, in the same split)."""
    first: dict[bytes, int] = {}
    for image in here.tolist():
        first.setdefault(prints.digests[image], image)
    first.pop(b"", None)
    twins = ((image, first.get(prints.digests[image])) for image in there.tolist())
    return {image: twin for image, twin in twins if twin is not None and twin != image}


Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def _near(
    prints: Prints, here: NDArray[np.int64], there: NDArray[np.int64], pairs: Pairs
) -> dict[int, tuple[int, int]]:
    """From image of ``there`` to the most similar one of ``here`` (an earlier one, in the same split) and the bits."""
    inverse, one, two, bits = pairs
    nowhere = len(prints.paths)
    lead = np.full(int(inverse.max(initial=-1)) + 1, nowhere)
    usable = here[prints.usable[here]]
    np.minimum.at(lead, inverse[usable], usable)
    within = np.array_equal(here, there)
    fits = (lead[one] < lead[two]) if within else (lead[one] < nowhere)
    one, two, bits = one[fits], two[fits], bits[fits]
    order = np.lexsort((lead[one], bits, two))
    best, at = np.unique(two[order], return_index=True)
    closest = {int(h): (int(lead[one[order[k]]]), int(bits[order[k]])) for h, k in zip(best, at, strict=True)}
    found = {}
    for image in there[prints.usable[there]].tolist():
        group = int(inverse[image])
        if within and lead[group] < image:
            found[image] = (int(lead[group]), 0)
        elif group in closest:
            found[image] = closest[group]
    return found


def _near_pairs(prints: Prints) -> Pairs:
    """Distinct hashes and their near ones: the distinct hash of each image (n,), then pairs of them both ways and their
    distances (P,), a hash and itself among them."""
    distinct, inverse = np.unique(prints.hashes, return_inverse=True)
    itself = np.arange(len(distinct))
    one, two, bits = [itself], [itself], [np.zeros(len(distinct), dtype=np.int64)]
    for position, (start, width) in enumerate(_BANDS):
        for i, j in _same_band(distinct, start, width):
            differing = distinct[i] ^ distinct[j]
            distance = _popcount(differing)
            near = distance <= NEAR_BITS
            for earlier_start, earlier_width in _BANDS[:position]:  # found there already
                near &= _band(differing, earlier_start, earlier_width) != 0
            one += [i[near], j[near]]
            two += [j[near], i[near]]
            bits += [distance[near]] * 2
    return inverse.reshape(-1), np.concatenate(one), np.concatenate(two), np.concatenate(bits)


def _band(values: NDArray[np.uint64], start: int, width: int) -> NDArray[np.uint64]:
    return (values >> np.uint64(start)) & np.uint64((1 << width) - 1)


def _same_band(
    values: NDArray[np.uint64], start: int, width: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Index pairs of values that are equal in one band, by distance of their places in sorted order: each step is one
    vector operation, and there are as many as the largest group is long."""
    keys = _band(values, start, width)
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    at = np.arange(len(keys))
    apart = 1
    while True:
        at = at[: np.searchsorted(at, len(keys) - apart)]
        at = at[keys[at] == keys[at + apart]]
        if not len(at):
            return
        yield order[at], order[at + apart]
        apart += 1


def _popcount(values: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The number of set bits (n,)."""
    return np.asarray(_ONES[values.view(np.uint16).reshape(-1, 4)].sum(axis=1, dtype=np.int64))
