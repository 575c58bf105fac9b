"""EuroSAT: land use in Sentinel-2 images of 64 x 64 pixels."""

from __future__ import annotations

from fledge.data.catalogue.known import Count, KnownDataset

EUROSAT_CLASSES = (
    "AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture", "PermanentCrop", "Residential",
    "River", "SeaLake",
)  # fmt: skip
_IMAGES = (3000, 3000, 3000, 2500, 2500, 2000, 2500, 3000, 2500, 3000)

EUROSAT = KnownDataset(
    key="eurosat",
    title="EuroSAT",
    task="classification",
    page="https://github.com/phelber/EuroSAT",
    terms="MIT according to TorchGeo",
    format="folder_per_class",
    tree="EuroSAT_RGB/AnnualCrop/AnnualCrop_1.jpg          or 2750/…, or …/tif/AnnualCrop/AnnualCrop_1.tif, 13 bands",
    classes=EUROSAT_CLASSES,
    counts=(Count("", 27_000),),
    split_rule=(
        "None by the authors. GeRSP: 20 % to train, 80 % to test, five repeats. Lists of 16,200 / 5,400 / 5,400 images "
        "by others (arXiv 1911.06721)."
    ),
    image_size="64 x 64",
    class_counts=dict(zip(EUROSAT_CLASSES, _IMAGES, strict=True)),
    traps=(
        "The bands of the .tif files are B01 to B12 and then B8A; red, green and blue are bands 4, 3 and 2.",
        "The RGB files are the others with 0 to 2,750 scaled to 1 to 255.",
        "Published lists name .jpg files for the .tif files too.",
    ),
    unverified=("class_counts",),
)
