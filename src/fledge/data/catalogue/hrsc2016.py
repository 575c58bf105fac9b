"""HRSC2016 (doi 10.5220/0006120603240331)."""

from __future__ import annotations

from fledge.data.catalogue.known import Count, KnownDataset

HRSC_CLASSES = ("ship",)
# By the last two digits of Class_ID; there is no 21 and no 23. Names as in MMRotate, but for four that picture the ship
# in brackets and strokes (19, 20, 25, 30): these end in their number.
HRSC_TYPES = {
    1: "ship", 2: "aircraft carrier", 3: "warcraft", 4: "merchant ship", 5: "Nimitz", 6: "Enterprise",
    7: "Arleigh Burke", 8: "WhidbeyIsland", 9: "Perry", 10: "Sanantonio", 11: "Ticonderoga", 12: "Kitty Hawk",
    13: "Kuznetsov", 14: "Abukuma", 15: "Austen", 16: "Tarawa", 17: "Blue Ridge", 18: "Container", 19: "OXo 19",
    20: "Car carrier 20", 22: "Hovercraft", 24: "yacht", 25: "CntShip 25", 26: "Cruise", 27: "submarine", 28: "lute",
    29: "Medical", 30: "Car carrier 30", 31: "Ford-class", 32: "Midway-class", 33: "Invincible-class",
}  # fmt: skip

HRSC2016 = KnownDataset(
    key="hrsc2016",
    title="HRSC2016",
    task="detection",
    page="https://aistudio.baidu.com/aistudio/datasetdetail/54106",
    terms="",
    format="hrsc2016",
    tree="""\
HRSC2016/FullDataSet/AllImages/100000001.bmp
HRSC2016/FullDataSet/Annotations/100000001.xml      or Train/ and Test/ with the same folders inside
HRSC2016/ImageSets/{train,val,trainval,test}.txt""",
    classes=HRSC_CLASSES,
    counts=(
        Count("", 1061, 2976),
        Count("train", 436, 1207),
        Count("val", 181, 541),
        Count("trainval", 617, 1748),
        Count("test", 444, 1228),
    ),
    split_rule="Train on trainval, test on test; AP50 under VOC07 and VOC12 side by side.",
    image_size="about 300 to 1,500",
    shapes=("oriented", "horizontal"),
    levels={"types of ships": tuple(HRSC_TYPES.values())},
    other_formats={"hrsc2016_types": "types of ships"},
    overlaps={
        "shiprsimagenet-v1.0": "1,057 images are named as a source of it",
        "shiprsimagenet-v1.1": "1,057 images are named as a source of it",
    },
    traps=(
        "The lists decide: the archive has 1,680 images, a few of them without labels, and the lists name 1,061.",
        "The original host is gone; the page is a mirror.",
        "Angles are radians, clockwise on screen, of the side along the ship.",
        "Objects are nested and named HRSC_Object; a list of them may be empty.",
        "Lists of types differ between tools from index 20 on, because ids 21 and 23 do not exist.",
    ),
)
