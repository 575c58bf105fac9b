"""SSDD (Remote Sensing 13(18), 3690)."""

from __future__ import annotations

from fledge.data.catalogue.known import Count, KnownDataset

SSDD = KnownDataset(
    key="ssdd",
    title="SSDD",
    task="detection",
    page="https://github.com/TianwenZhang0825/Official-SSDD",
    terms="",
    format="ssdd",
    tree="""\
{RBox_SSDD,BBox_SSDD}/voc_style/JPEGImages_{train,test}/000001.jpg     or JPEGImages/
{RBox_SSDD,BBox_SSDD}/voc_style/Annotations_{train,test}/000001.xml    also test_inshore, test_offshore""",
    classes=("ship",),
    counts=(
        Count("", 1160),
        Count("", None, 2586, note="polygons of the PSeg release"),
        Count("", None, 2456, verified=False, note="ships of the first release"),
        Count("train", 928, verified=False),
        Count("test", 232, verified=False),
    ),
    split_rule="File numbers ending in 1 or 9 are test; results also on its inshore and offshore parts.",
    image_size="214 to 668 x 190 to 526",
    shapes=("oriented", "horizontal"),
    traps=(
        "rotated_bbox_theta is in degrees from 0 to 90; the corners are beside it.",
        "MMRotate's copy is COCO json with the box as segmentation: open its train/ or test/all/ in the form coco.",
    ),
    unverified=("split_rule",),
)
