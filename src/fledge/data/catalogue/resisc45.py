"""NWPU-RESISC45: 45 classes of scenes with 700 images each."""

from __future__ import annotations

from fledge.data.catalogue.known import Count, KnownDataset

RESISC45_CLASSES = (
    "airplane", "airport", "baseball_diamond", "basketball_court", "beach", "bridge", "chaparral", "church",
    "circular_farmland", "cloud", "commercial_area", "dense_residential", "desert", "forest", "freeway", "golf_course",
    "ground_track_field", "harbor", "industrial_area", "intersection", "island", "lake", "meadow", "medium_residential",
    "mobile_home_park", "mountain", "overpass", "palace", "parking_lot", "railway", "railway_station",
    "rectangular_farmland", "river", "roundabout", "runway", "sea_ice", "ship", "snowberg", "sparse_residential",
    "stadium", "storage_tank", "tennis_court", "terrace", "thermal_power_station", "wetland",
)  # fmt: skip

RESISC45 = KnownDataset(
    key="nwpu-resisc45",
    title="NWPU-RESISC45",
    task="classification",
    page="https://gcheng-nwpu.github.io/#Datasets",
    terms="CC BY-NC 4.0 according to TorchGeo",
    format="folder_per_class",
    tree="NWPU-RESISC45/airplane/airplane_001.jpg",
    classes=RESISC45_CLASSES,
    counts=(Count("", 31_500),),
    split_rule="None by the authors. GeRSP: 20 % to train, 80 % to test, five repeats.",
    image_size="256 x 256",
    class_counts=dict.fromkeys(RESISC45_CLASSES, 700),
    traps=("The page writes seaice, the folder is sea_ice.",),
)
