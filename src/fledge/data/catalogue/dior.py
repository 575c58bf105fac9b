"""DIOR and DIOR-R: one set of images, two of labels."""

from __future__ import annotations

from fledge.data.catalogue.known import Count, KnownDataset

# In the order of BboxToolkit, MMRotate and MutDet, spelt as in the files.
DIOR_CLASSES = (
    "airplane", "airport", "baseballfield", "basketballcourt", "bridge", "chimney", "Expressway-Service-area",
    "Expressway-toll-station", "dam", "golffield", "groundtrackfield", "harbor", "overpass", "ship", "stadium",
    "storagetank", "tenniscourt", "trainstation", "vehicle", "windmill",
)  # fmt: skip

_PAGE = "https://gcheng-nwpu.github.io/#Datasets"
_TERMS = "CC BY-NC 4.0 according to TorchGeo"
_SPLIT_RULE = "Train on trainval (files 00001 to 11725), test on test (11726 to 23463), whole images."
_SPLITS = (
    Count("trainval", 11_725),
    Count("test", 11_738),
    Count("train", 5862, verified=False),
    Count("val", 5863, verified=False),
)
_TRAPS = (
    "Class orders differ between tools (alphabetical ones put dam before the two expressway classes): match by name.",
    "Names are mixed case: Expressway-Service-area and Expressway-toll-station, the other 18 lower case and joined.",
)

DIOR = KnownDataset(
    key="dior",
    title="DIOR",
    task="detection",
    page=_PAGE,
    terms=_TERMS,
    format="dior",
    tree="""\
DIOR/JPEGImages-trainval/00001.jpg, DIOR/JPEGImages-test/11726.jpg
DIOR/Annotations/Horizontal Bounding Boxes/00001.xml
DIOR/ImageSets/Main/{train,val,test}.txt""",
    classes=DIOR_CLASSES,
    counts=(Count("", 23_463, 192_472), *_SPLITS),
    split_rule=_SPLIT_RULE,
    image_size="800 x 800",
    shapes=("horizontal",),
    overlaps={"dior-r": "the same images"},
    traps=(*_TRAPS, "Some copies lack the stated image size, some the labels of test."),
)

DIOR_R = KnownDataset(
    key="dior-r",
    title="DIOR-R",
    task="detection",
    page=_PAGE,
    terms=_TERMS,
    format="dior_r",
    tree="""\
DIOR/JPEGImages-trainval/00001.jpg, DIOR/JPEGImages-test/11726.jpg
DIOR/Annotations/Oriented Bounding Boxes/00001.xml
DIOR/ImageSets/Main/{train,val,test}.txt""",
    classes=DIOR_CLASSES,
    counts=(Count("", 23_463, 192_518), *_SPLITS),
    split_rule=_SPLIT_RULE,
    image_size="800 x 800",
    shapes=("oriented",),
    overlaps={"dior": "the same images"},
    other_formats={"dior": "the horizontal boxes beside them"},
    traps=(
        *_TRAPS,
        "Corners are named in the object's own frame: read them by tag name, never by order or place on screen.",
        "46 objects more than DIOR: two sets of labels, not an error.",
    ),
)
