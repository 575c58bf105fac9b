"""The GeoJSON files that ``fledge detect`` writes, one an image, in pixels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from fledge.data.datasets.json_labels import finite_numbers
from fledge.data.datasets.text_labels import BadLabelError
from fledge.data.labels import CLASS_NAME, LabelProblem
from fledge.evaluation.results.listing import Collector, Listing, Source, place_of
from fledge.evaluation.results.text_table import check_score

_AGAIN = "write it with fledge detect"


def read_geojson_files(sources: Sequence[Source], name: str) -> Listing:
    """GeoJSON in pixels; ``name`` is what is read, for messages.

    Raises:
        DataError: a file is damaged or in world coordinates, or a feature is not as it should be.
    """
    into = Collector("fledge GeoJSON", records=True)
    for source in sources:
        rows = []
        try:
            features = _features(source)
        except BadLabelError as bad:
            into.problems.append(LabelProblem(source.where, bad.what, bad.remedy, bad.kind))
            continue
        for number, feature in enumerate(features, start=1):
            try:
                rows.append((number, *_detection(feature)))
            except BadLabelError as bad:
                where = place_of(source.where, number, True)
                into.problems.append(LabelProblem(where, bad.what, bad.remedy, bad.kind))
        into.add(
            source.where,
            into.image_codes([PurePath(source.name).stem] * len(rows)),
            np.array([into.label(row[1]) for row in rows], dtype=np.int64),
            np.array([row[2] for row in rows], dtype=np.float64),
            np.array([row[3] for row in rows], dtype=np.float64).reshape(-1, 4, 2),
            np.array([row[0] for row in rows], dtype=np.int64),
        )
    return into.listing(name)


def _features(source: Source) -> list[Any]:
    try:
        content = json.loads(source.data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise BadLabelError("not json", "restore it from an intact copy", "file") from error
    features = content.get("features") if isinstance(content, dict) else None
    if not isinstance(features, list):
        raise BadLabelError("no list of features", _AGAIN, "file")
    if features and content.get("coordinates") != "pixels":
        raise BadLabelError("not in pixels", "world coordinates cannot be compared: write --format dota", "file")
    return features


def _detection(feature: Any) -> tuple[str, float, tuple[float, ...]]:
    """Class name, score and eight numbers."""
    try:
        facts, ring = feature["properties"], feature["geometry"]["coordinates"][0]
        name, score = facts["class"], facts["score"]
        points = [value for point in ring[:4] for value in point]
    except (KeyError, TypeError, IndexError) as error:
        raise BadLabelError("no class, score or ring", _AGAIN, "fields") from error
    if not isinstance(name, str) or not CLASS_NAME.fullmatch(name):
        raise BadLabelError(f"{str(name)[:64]!r} is not a class name", _AGAIN, "class name")
    if not isinstance(score, int | float) or isinstance(score, bool):
        raise BadLabelError("the score is no number", _AGAIN, "score")
    check_score(score, _AGAIN)
    numbers = finite_numbers(points, "ring", _AGAIN)
    if len(ring) != 5 or len(numbers) != 8:
        raise BadLabelError(f"a ring of {len(ring)} points instead of 5", _AGAIN, "fields")
    return name, float(score), numbers
