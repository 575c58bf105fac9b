"""UC Merced Land Use: 21 classes with 100 images each."""

from __future__ import annotations

from fledge.data.catalogue.known import Count, KnownDataset

UC_MERCED_CLASSES = (
    "agricultural", "airplane", "baseballdiamond", "beach", "buildings", "chaparral", "denseresidential", "forest",
    "freeway", "golfcourse", "harbor", "intersection", "mediumresidential", "mobilehomepark", "overpass", "parkinglot",
    "river", "runway", "sparseresidential", "storagetanks", "tenniscourt",
)  # fmt: skip

UC_MERCED = KnownDataset(
    key="uc-merced",
    title="UC Merced",
    task="classification",
    page="http://weegee.vision.ucmerced.edu/datasets/landuse.html",
    terms="public domain according to TorchGeo",
    format="folder_per_class",
    tree="UCMerced_LandUse/Images/agricultural/agricultural00.tif",
    classes=UC_MERCED_CLASSES,
    counts=(Count("", 2100),),
    split_rule="None by the authors.",
    image_size="256 x 256",
    class_counts=dict.fromkeys(UC_MERCED_CLASSES, 100),
    traps=("Some images are said to be a few pixels off 256 (not verified).",),
)
