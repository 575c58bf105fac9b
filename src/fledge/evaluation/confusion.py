"""Which class was taken for which: the one matrix that scene classification and segmentation are scored from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fledge.errors import UsageError


def confusion_matrix(
    truth: ArrayLike, predicted: ArrayLike, classes: int, no_data: int | None = None
) -> NDArray[np.int64]:
    """How often each class was taken for each: (K, K) counts, row the true class and column the predicted one.

    Matrices of parts add up to that of the whole, so that any number of images needs one matrix.

    Args:
        truth: true classes 0…K-1 of any shape, such as the images of a split or the pixels of a mask.
        predicted: predicted classes, of the same shape.
        classes: K.
        no_data: a value of ``truth`` that is not scored, whatever is predicted there.

    Raises:
        UsageError: shapes differ, values are no integers, or one is neither a class nor ``no_data``.
    """
    true, found = np.asarray(truth), np.asarray(predicted)
    if true.shape != found.shape:
        raise UsageError(f"shapes differ: truth is {true.shape}, prediction {found.shape}: score them pixel by pixel")
    scored = np.ones(true.shape, dtype=np.bool_) if no_data is None else true != no_data
    rows, columns = _checked(true[scored], classes, "truth"), _checked(found[scored], classes, "prediction")
    counts = np.bincount(rows * classes + columns, minlength=classes * classes)
    return np.asarray(counts.reshape(classes, classes), dtype=np.int64)


def _checked(values: NDArray[Any], classes: int, what: str) -> NDArray[np.int64]:
    if values.size and not np.issubdtype(values.dtype, np.integer):
        raise UsageError(f"no classes: {what} is {values.dtype}: give integers 0 to {classes - 1}")
    wrong = values[(values < 0) | (values >= classes)]
    if wrong.size:
        raise UsageError(f"no class {wrong[0]}: {what}: {classes} classes are numbered 0 to {classes - 1}")
    return values.astype(np.int64)
