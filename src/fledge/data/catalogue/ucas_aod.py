"""UCAS-AOD."""

from __future__ import annotations

from fledge.data.catalogue.known import Count, KnownDataset

UCAS_AOD_CLASSES = ("car", "airplane")

UCAS_AOD = KnownDataset(
    key="ucas-aod",
    title="UCAS-AOD",
    task="detection",
    page="https://hyper.ai/datasets/5419",
    terms="",
    format="ucas_aod",
    tree="""\
UCAS_AOD/CAR/P0001.png and P0001.txt
UCAS_AOD/PLANE/P0001.png and P0001.txt
UCAS_AOD/Neg/P0001.png""",
    classes=UCAS_AOD_CLASSES,
    counts=(
        Count("", 1510, 14_596, note="images with objects"),
        Count("", 2420, 14_596, note="with the 910 negative images"),
        Count("train", 755),
        Count("val", 302),
        Count("test", 453, note="a README says 452"),
    ),
    split_rule="No official split; the lists that circulate have 755, 302 and 453 images.",
    image_size="1280 x 659 and 1372 x 941",
    shapes=("oriented", "horizontal"),
    class_counts={"car": 7114, "airplane": 7482},
    traps=(
        "Labels have 13 numbers and no class: the folder says which.",
        "Both folders use the same names; the lists number airplanes on from the 510 cars.",
        "The class airplane is plane in some tools, and the order of the two differs: match by name.",
    ),
)
