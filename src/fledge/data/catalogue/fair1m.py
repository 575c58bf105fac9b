"""FAIR1M-1.0 and FAIR1M-2.0 (arXiv 2103.05569)."""

from __future__ import annotations

from fledge.data.catalogue.known import Count, KnownDataset

# In the order of TorchGeo; there are no official indices.
FAIR1M_CLASSES = (
    "Passenger Ship", "Motorboat", "Fishing Boat", "Tugboat", "other-ship", "Engineering Ship", "Liquid Cargo Ship",
    "Dry Cargo Ship", "Warship", "Small Car", "Bus", "Cargo Truck", "Dump Truck", "other-vehicle", "Van", "Trailer",
    "Tractor", "Excavator", "Truck Tractor", "Boeing737", "Boeing747", "Boeing777", "Boeing787", "ARJ21", "C919",
    "A220", "A321", "A330", "A350", "other-airplane", "Baseball Field", "Basketball Court", "Football Field",
    "Tennis Court", "Roundabout", "Intersection", "Bridge",
)  # fmt: skip

_PAGE = "https://www.gaofen-challenge.com/benchmark"
_TERMS = "CC BY-NC-SA 3.0 according to TorchGeo; registration"
_TRAPS = (
    "Five points, the last repeating the first, each as the text x,y.",
    "Class names hold spaces: text in DOTA's form needs another separator.",
    "File numbers begin anew in each part: an image needs the name of its part.",
    "The set called FAIR1M-1.5 is another one, of 5 or 10 classes.",
    "Two boards of results give different figures.",
)

FAIR1M_10 = KnownDataset(
    key="fair1m-1.0",
    title="FAIR1M-1.0",
    task="detection",
    page=_PAGE,
    terms=_TERMS,
    format="fair1m",
    tree="""\
FAIR1M/train/{part1,part2}/images/123.tif
FAIR1M/train/{part1,part2}/labelXml/123.xml
FAIR1M/test/images/                         the labels of test are not public""",
    classes=FAIR1M_CLASSES,
    counts=(
        Count("train", 16_488, verified=False),
        Count("test", 8137, verified=False),
    ),
    split_rule="There is no validation split; results on test come from the site.",
    image_size="about 1,000 to 10,000",
    shapes=("oriented",),
    traps=(*_TRAPS, "More than 15,000 images and a million objects are stated, no exact figures."),
    unverified=("tree",),
)

FAIR1M_20 = KnownDataset(
    key="fair1m-2.0",
    title="FAIR1M-2.0",
    task="detection",
    page=_PAGE,
    terms=_TERMS,
    format="fair1m",
    tree="""\
FAIR1M/train/{part1,part2}/images/123.tif
FAIR1M/train/{part1,part2}/labelXml/123.xml
FAIR1M/validation/images/123.tif
FAIR1M/validation/labelXml/123.xml
FAIR1M/test/images/                         the labels of test are not public""",
    classes=FAIR1M_CLASSES,
    counts=(
        Count("train", 16_488, verified=False),
        Count("validation", 8287, verified=False),
        Count("test", 18_021, verified=False),
    ),
    split_rule="Results on test come from the site; offline, validation is left.",
    image_size="about 1,000 to 10,000",
    shapes=("oriented",),
    traps=(*_TRAPS, "More than 40,000 images and a million objects are stated, no exact figures."),
)
