"""ShipRSImageNet V1.0 and V1.1."""

from __future__ import annotations

from itertools import accumulate

from fledge.data.catalogue.known import Count, KnownDataset

_LEVEL_0 = ("Ship", "Dock")
_LEVEL_1 = ("Other Ship", "Warship", "Merchant", "Dock")
_LEVEL_2 = (
    "Other Ship", "Other Warship", "Submarine", "Aircraft Carrier", "Cruiser", "Destroyer", "Frigate", "Patrol",
    "Landing", "Commander", "Auxiliary Ships", "Other Merchant", "Container Ship", "RoRo", "Cargo", "Barge", "Tugboat",
    "Ferry", "Yacht", "Sailboat", "Fishing Vessel", "Oil Tanker", "Hovercraft", "Motorboat", "Dock",
)  # fmt: skip
_LEVEL_3 = (
    "Other Ship", "Other Warship", "Submarine", "Other Aircraft Carrier", "Enterprise", "Nimitz", "Midway",
    "Ticonderoga", "Other Destroyer", "Atago DD", "Arleigh Burke DD", "Hatsuyuki DD", "Hyuga DD", "Asagiri DD",
    "Other Frigate", "Perry FF", "Patrol", "Other Landing", "YuTing LL", "YuDeng LL", "YuDao LL", "YuZhao LL",
    "Austin LL", "Osumi LL", "Wasp LL", "LSD 41 LL", "LHA LL", "Commander", "Other Auxiliary Ship", "Medical Ship",
    "Test Ship", "Training Ship", "AOE", "Masyuu AS", "Sanantonio AS", "EPF", "Other Merchant", "Container Ship",
    "RoRo", "Cargo", "Barge", "Tugboat", "Ferry", "Yacht", "Sailboat", "Fishing Vessel", "Oil Tanker", "Hovercraft",
    "Motorboat", "Dock",
)  # fmt: skip
LEVELS = (_LEVEL_0, _LEVEL_1, _LEVEL_2, _LEVEL_3)
"""The class names of levels 0 to 3; the numbers in the files count from 1."""

# How many classes of the next level belong to each class of levels 0, 1 and 2: they stand together in its list.
_MEMBERS = ((3, 1), (1, 10, 13, 1), (1, 1, 1, 4, 1, 6, 2, 1, 10, 1, 8, *[1] * 14))


def level_numbers(number: int) -> tuple[int, ...]:
    """The numbers, counted from 1, of the classes of levels 0 to 3 to which class ``number`` of level 3 belongs."""
    numbers = [number]
    for members in reversed(_MEMBERS):
        numbers.append(1 + sum(last < numbers[-1] for last in accumulate(members)))
    return tuple(reversed(numbers))


_PAGE = "https://github.com/zzndream/ShipRSImageNet"
_TERMS = "images and labels for academic use only (the README, which also names Apache 2.0)"
_TREE = """\
ShipRSImageNet/VOC_Format/JPEGImages/NAME.bmp
ShipRSImageNet/VOC_Format/annotations/NAME.xml
ShipRSImageNet/VOC_Format/ImageSets/{train,val,test}.txt
ShipRSImageNet/COCO_Format/ShipRSImageNet_bbox_{train,val,test}_level_{0,1,2,3}.json"""
_LEVELS = {f"level {level}": names for level, names in enumerate(LEVELS)}
_OVERLAPS = {"hrsc2016": "about a third of the images come from it"}
_FORMATS = {
    "shiprsimagenet_level0": "classes of level 0",
    "shiprsimagenet_level1": "classes of level 1",
    "shiprsimagenet_level2": "classes of level 2",
    "coco": "COCO_Format/",
}
_TRAPS = (
    "Lists of images carry the suffix (NAME.bmp).",
    "Numbers of classes count from 1.",
    "The devkit writes segmentation as one flat list, and the names of level 3 into files of other levels.",
    "Dock is a class at every level, yet no ship.",
    "Do not train on HRSC2016 and test here, or the other way round: they have images in common.",
    "3,426 images (2,748 + 678) are used in one paper, and the README's own list of sources adds up to 3,473.",
)

SHIPRSIMAGENET_V10 = KnownDataset(
    key="shiprsimagenet-v1.0",
    title="ShipRSImageNet V1.0",
    task="detection",
    page=_PAGE,
    terms=_TERMS,
    format="shiprsimagenet",
    tree=_TREE,
    classes=_LEVEL_3,
    counts=(
        Count("", 3435, 17_573),
        Count("train", 2198, verified=False),
        Count("val", 550, verified=False),
        Count("test", 687, verified=False),
    ),
    split_rule="The labels of test were released with V1.1 only; before, val was used to test.",
    image_size="about 930 x 930",
    shapes=("oriented", "horizontal"),
    levels=_LEVELS,
    overlaps=_OVERLAPS,
    other_formats=_FORMATS,
    traps=_TRAPS,
)

SHIPRSIMAGENET_V11 = KnownDataset(
    key="shiprsimagenet-v1.1",
    title="ShipRSImageNet V1.1",
    task="detection",
    page=_PAGE,
    terms=_TERMS,
    format="shiprsimagenet",
    tree=_TREE,
    classes=_LEVEL_3,
    counts=SHIPRSIMAGENET_V10.counts,
    split_rule="The lists of V1.0, and the labels of test.",
    image_size="about 930 x 930",
    shapes=("oriented", "horizontal"),
    levels=_LEVELS,
    overlaps=_OVERLAPS,
    other_formats=_FORMATS,
    traps=_TRAPS,
)
