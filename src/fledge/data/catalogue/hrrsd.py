"""HRRSD."""

from __future__ import annotations

from fledge.data.catalogue.known import Count, KnownDataset

# In the order of the README's numbers 1 to 13.
HRRSD_CLASSES = (
    "ship", "bridge", "ground track field", "storage tank", "basketball court", "tennis court", "airplane",
    "baseball diamond", "harbor", "vehicle", "crossroad", "T junction", "parking lot",
)  # fmt: skip

HRRSD = KnownDataset(
    key="hrrsd",
    title="HRRSD",
    task="detection",
    page="https://github.com/CrazyStoneonRoad/TGRS-HRRSD-Dataset",
    terms="Mulan PSL v1, a licence for software, lies beside it",
    format="hrrsd",
    tree="""\
OPT2017/JPEGImages/00001.jpg
OPT2017/Annotations/00001.xml
OPT2017/ImageSets/Main/{train,val,trainval,test}.txt""",
    classes=HRRSD_CLASSES,
    counts=(
        Count("", 21_761, 57_137, note="counted in the XML files"),
        Count("", 21_761, 55_740, note="as the README says"),
        Count("train", 5401, 14_039),
        Count("val", 5417, 13_055),
        Count("test", 10_943, 30_043),
    ),
    split_rule="The lists of the archive.",
    image_size="152 to 10,569",
    shapes=("horizontal",),
    class_counts={
        "ship": 3975, "bridge": 4651, "ground track field": 4033, "storage tank": 4424, "basketball court": 4064,
        "tennis court": 4420, "airplane": 4901, "baseball diamond": 4042, "harbor": 3902, "vehicle": 4756,
        "crossroad": 4436, "T junction": 4575, "parking lot": 4958,
    },
    traps=(
        "20 boxes leave their image or have no area: what cannot be an object needs --skip-bad-labels.",
        "T junction has a capital T; the COCO files of the archive number the classes otherwise: match by name.",
        "The split of the COCO files (20/20/60 %) is not that of the lists.",
        "A tag name occurs below owner, too.",
    ),
)  # fmt: skip
