"""OHD-SJTU-S and OHD-SJTU-L: oriented boxes with headings."""

from __future__ import annotations

from fledge.data.catalogue.known import Count, KnownDataset

# In the order of MutDet's reader, which begins with the two classes of S.
OHD_S_CLASSES = ("ship", "plane")
OHD_L_CLASSES = (*OHD_S_CLASSES, "small-vehicle", "large-vehicle", "harbor", "helicopter")

_PAGE = "https://yangxue0827.github.io/OHD-SJTU.html"
_TREE = """\
OHD-SJTU-{S,L}/{trainval,test}/images/P30.jpg
OHD-SJTU-{S,L}/{trainval,test}/rotation_txt/P30.txt"""
_SPLIT_RULE = "Train on trainval, test on test; patches of 600 with overlap 150, resized to 800."
_TRAPS = (
    "A line has 12 fields, two of them the head point: a reader made for DOTA takes x_head for the class.",
    "Class orders differ between tools: match by name.",
    "The authors evaluate merged scenes, MutDet patches: say which.",
)

OHD_SJTU_S = KnownDataset(
    key="ohd-sjtu-s",
    title="OHD-SJTU-S",
    task="detection",
    page=_PAGE,
    terms="",
    format="ohd_sjtu",
    tree=_TREE,
    classes=OHD_S_CLASSES,
    counts=(Count("", 43, 4125), Count("trainval", 30), Count("test", 13)),
    split_rule=_SPLIT_RULE,
    image_size="10,000 x 10,000 and 16,000 x 16,000",
    shapes=("oriented",),
    class_counts={"ship": 3343, "plane": 782},
    overlaps={"ohd-sjtu-l": "all of it is in there"},
    traps=_TRAPS,
)

OHD_SJTU_L = KnownDataset(
    key="ohd-sjtu-l",
    title="OHD-SJTU-L",
    task="detection",
    page=_PAGE,
    terms="academic use only for the part that comes from DOTA",
    format="ohd_sjtu",
    tree=_TREE,
    classes=OHD_L_CLASSES,
    counts=(Count("", None, 113_435), Count("test", 335)),
    split_rule=_SPLIT_RULE,
    image_size="as in OHD-SJTU-S and DOTA",
    shapes=("oriented",),
    overlaps={
        "ohd-sjtu-s": "all of that is in here",
        "dota-v1.0": "322 of the 335 test images are its validation images",
    },
    traps=(*_TRAPS, "What was trained on DOTA's trainval has seen the test images."),
)
