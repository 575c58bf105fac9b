"""RSSCN7: seven classes of scenes at four scales."""

from __future__ import annotations

from fledge.data.catalogue.known import Count, KnownDataset

RSSCN7_CLASSES = ("aGrass", "bField", "cIndustry", "dRiverLake", "eForest", "fResident", "gParking")

RSSCN7 = KnownDataset(
    key="rsscn7",
    title="RSSCN7",
    task="classification",
    page="https://github.com/palewithout/RSSCN7",
    terms="none stated",
    format="folder_per_class",
    tree="RSSCN7/aGrass/a001.jpg",
    classes=RSSCN7_CLASSES,
    counts=(Count("", 2800),),
    split_rule="None by the authors.",
    image_size="400 x 400",
    class_counts=dict.fromkeys(RSSCN7_CLASSES, 400),
    traps=("Folders carry a letter before the name, which keeps their order.",),
)
