"""NWPU VHR-10."""

from __future__ import annotations

from fledge.data.catalogue.known import Count, KnownDataset

# The files number them from 1.
VHR10_CLASSES = (
    "airplane", "ship", "storage tank", "baseball diamond", "tennis court", "basketball court", "ground track field",
    "harbor", "bridge", "vehicle",
)  # fmt: skip

NWPU_VHR10 = KnownDataset(
    key="nwpu-vhr10",
    title="NWPU VHR-10",
    task="detection",
    page="https://gcheng-nwpu.github.io/#Datasets",
    terms="CC BY-NC 4.0 according to TorchGeo",
    format="nwpu_vhr10",
    tree="""\
NWPU VHR-10 dataset/positive image set/001.jpg
NWPU VHR-10 dataset/ground truth/001.txt
NWPU VHR-10 dataset/negative image set/001.jpg""",
    classes=VHR10_CLASSES,
    counts=(Count("", 800, 3775, note="150 of the images are negative"),),
    split_rule="None official; 60/20/20 or 50/50 of the 650 positive images are usual.",
    image_size="533 to 1,728 x 358 to 1,028",
    shapes=("horizontal",),
    class_counts={
        "airplane": 757, "ship": 302, "storage tank": 655, "baseball diamond": 390, "tennis court": 524,
        "basketball court": 159, "ground track field": 163, "harbor": 224, "bridge": 124, "vehicle": 477,
    },
    traps=(
        "Both folders of images use the same numbers.",
        "A relabelling in COCO form has 3,921 objects, and its image ids begin at 0.",
    ),
    unverified=("split_rule",),
)  # fmt: skip
