"""SAR-AIRcraft-1.0 (doi 10.12000/JR23043)."""

from __future__ import annotations

from fledge.data.catalogue.known import Count, KnownDataset

# In the order of the paper's abstract; there are no official indices.
SAR_AIRCRAFT_CLASSES = ("A220", "A320/321", "A330", "ARJ21", "Boeing737", "Boeing787", "other")

SAR_AIRCRAFT = KnownDataset(
    key="sar-aircraft-1.0",
    title="SAR-AIRcraft-1.0",
    task="detection",
    page="https://radars.ac.cn/en/article/doi/10.12000/JR23043",
    terms="research use with citation, commercial use by permission",
    format="voc",
    tree="""\
SAR-AIRcraft-1.0/JPEGImages/0000001.jpg
SAR-AIRcraft-1.0/Annotations/0000001.xml
SAR-AIRcraft-1.0/ImageSets/Main/{train,test}.txt""",
    classes=SAR_AIRCRAFT_CLASSES,
    counts=(Count("", 4368, 16_463), Count("train", 3489), Count("test", 879)),
    split_rule="3,489 images to train and 879 to test; others use the lists of the release.",
    image_size="800, 1,000, 1,200 and 1,500 square",
    shapes=("horizontal",),
    class_counts={
        "A220": 3730, "A320/321": 1771, "A330": 309, "ARJ21": 1187, "Boeing737": 2557, "Boeing787": 2645, "other": 4264,
    },
    traps=(
        "The class A320/321 holds a slash: as a file name it is A320_321.",
        "There are seven classes, although a text says six.",
        "SADD and the Gaofen-2021 challenge set are other datasets.",
    ),
    unverified=("terms", "tree"),
)  # fmt: skip
