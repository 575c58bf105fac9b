"""DOTA: v1.0, v1.5 and v2.0 (the last: arXiv 2102.12219)."""

from __future__ import annotations

from fledge.data.catalogue.known import Count, KnownDataset

DOTA_V10_CLASSES = (
    "plane", "baseball-diamond", "bridge", "ground-track-field", "small-vehicle", "large-vehicle", "ship",
    "tennis-court", "basketball-court", "storage-tank", "soccer-ball-field", "roundabout", "harbor", "swimming-pool",
    "helicopter",
)  # fmt: skip
DOTA_V15_CLASSES = (*DOTA_V10_CLASSES, "container-crane")
DOTA_V20_CLASSES = (*DOTA_V15_CLASSES, "airport", "helipad")

_PAGE = "https://captain-whu.github.io/DOTA/dataset.html"
_TERMS = "academic use only; Google Earth's terms apply to its images (the page)"
_TREE = """\
DOTA/{train,val}/images/P0000.png
DOTA/{train,val}/labelTxt/P0000.txt     or labelTxt-v1.0/, labelTxt-v1.5/, labelTxt-v2.0/
DOTA/test/images/                       the labels of test are not public"""
_SPLIT_RULE = (
    "Papers train on train + val and send results on test to the server; offline, train on train and test on val. "
    "Images are cut into patches of 1024 with overlap 200, results merged."
)
_HORIZONTAL = {"dota_hbb": "horizontal boxes"}
_TRAPS = (
    "Class orders differ between tools (four are in use): match by name.",
    "Files may begin with two header lines, imagesource and gsd; a copy may lack them.",
    "Corners need not form a rectangle and may leave the image.",
    "difficult is 0 or 1; patches written by tiling tools use 2 for objects that were cut.",
    "Horizontal boxes (Task 2) are the least and greatest corner coordinates.",
)

DOTA_V10 = KnownDataset(
    key="dota-v1.0",
    title="DOTA-v1.0",
    task="detection",
    page=_PAGE,
    terms=_TERMS,
    format="dota",
    tree=_TREE,
    classes=DOTA_V10_CLASSES,
    counts=(
        Count("", 2806, 188_282),
        Count("train", 1411),
        Count("val", 458),
        Count("test", 937),
        Count("train", None, 98_990, verified=False),
        Count("val", None, 28_853, verified=False),
        Count("test", None, 60_439, verified=False),
    ),
    split_rule=_SPLIT_RULE,
    image_size="about 800 to 4,000; real files leave both ends",
    shapes=("oriented", "horizontal"),
    other_formats=_HORIZONTAL,
    traps=(*_TRAPS, "Evaluation leaves difficult objects out of the recall."),
    overlaps={"dota-v1.5": "the same images", "ohd-sjtu-l": "322 of val are in its test"},
    recipes="kd_rnet_dota_*",
)

DOTA_V15 = KnownDataset(
    key="dota-v1.5",
    title="DOTA-v1.5",
    task="detection",
    page=_PAGE,
    terms=_TERMS,
    format="dota",
    tree=_TREE,
    classes=DOTA_V15_CLASSES,
    counts=(
        Count("", 2806),
        Count("", None, 403_318, verified=False, note="total as it circulates"),
        Count("", None, 402_089, verified=False, note="sum of the splits"),
        Count("train", 1411),
        Count("val", 458),
        Count("test", 937),
        Count("train", None, 210_631, verified=False),
        Count("val", None, 69_565, verified=False),
        Count("test", None, 121_893, verified=False),
    ),
    split_rule=_SPLIT_RULE,
    image_size="the images of v1.0",
    shapes=("oriented", "horizontal"),
    other_formats=_HORIZONTAL,
    overlaps={"dota-v1.0": "the same images"},
    traps=(*_TRAPS, "Both official evaluators of v1.5 count difficult objects like all others."),
)

DOTA_V20 = KnownDataset(
    key="dota-v2.0",
    title="DOTA-v2.0",
    task="detection",
    page=_PAGE,
    terms=_TERMS,
    format="dota",
    tree=_TREE,
    classes=DOTA_V20_CLASSES,
    counts=(
        Count("", 11_268, 1_793_658),
        Count("trainval", 2423),
        Count("train", 1830, 268_627, verified=False),
        Count("val", 593, 81_048, verified=False),
        Count("test-dev", 2792, 353_346, verified=False),
        Count("test-challenge", 6053, 1_090_637, verified=False),
    ),
    split_rule=_SPLIT_RULE,
    image_size="800 to 20,000",
    shapes=("oriented", "horizontal"),
    other_formats=_HORIZONTAL,
    traps=(*_TRAPS, "The devkit has no evaluator for v2.0."),
)
