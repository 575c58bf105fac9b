"""Which labels an evaluation was made on, as one number."""

from __future__ import annotations

import hashlib

import numpy as np

from fledge.evaluation.case import Case


def labels_sha256(case: Case) -> str:
    """SHA-256 over the names of images and classes and all labels, whatever the order of images and objects.

    Two evaluations with the same value were made on the same images with the same labels: class names, corners,
    difficult and ignored flags.
    """
    objects = case.objects
    classes = sorted(case.classes)
    ranks = np.array([*(classes.index(name) for name in case.classes), -1])
    names = ranks[np.where(objects.ignore, -1, objects.label)]
    images = sorted(range(len(case.images)), key=lambda i: case.images[i])
    place = np.empty(len(images), dtype=np.int64)
    place[images] = np.arange(len(images))
    columns = [place[objects.image], names, *objects.quads.reshape(-1, 8).T, objects.difficult, objects.ignore]
    table = np.stack([np.asarray(column, dtype="<f8") for column in columns], axis=1) + 0.0  # no negative zeros
    table = table[np.lexsort(table.T[::-1])]
    text = "\n".join([*(case.images[i] for i in images), "", *classes, ""])
    return hashlib.sha256(text.encode() + table.tobytes()).hexdigest()
