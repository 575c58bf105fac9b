"""AID: 30 classes of scenes from Google Earth."""

from __future__ import annotations

from fledge.data.catalogue.known import Count, KnownDataset

AID_CLASSES = (
    "Airport", "BareLand", "BaseballField", "Beach", "Bridge", "Center", "Church", "Commercial", "DenseResidential",
    "Desert", "Farmland", "Forest", "Industrial", "Meadow", "MediumResidential", "Mountain", "Park", "Parking",
    "Playground", "Pond", "Port", "RailwayStation", "Resort", "River", "School", "SparseResidential", "Square",
    "Stadium", "StorageTanks", "Viaduct",
)  # fmt: skip

AID = KnownDataset(
    key="aid",
    title="AID",
    task="classification",
    page="https://captain-whu.github.io/AID/",
    terms="",
    format="folder_per_class",
    tree="AID/Airport/airport_1.jpg",
    classes=AID_CLASSES,
    counts=(Count("", 10_000),),
    split_rule="None by the authors.",
    image_size="600 x 600",
    unverified=("image_size", "tree"),
)
