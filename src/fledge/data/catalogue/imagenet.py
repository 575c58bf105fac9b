"""ImageNet-1k: natural images, as GeRSP uses them beside those from above."""

from __future__ import annotations

from fledge.data.catalogue.known import Count, KnownDataset

IMAGENET = KnownDataset(
    key="imagenet-1k",
    title="ImageNet-1k",
    task="classification",
    page="",
    terms="registration, non-commercial research",
    format="folder_per_class",
    tree="imagenet/train/n01440764/*.JPEG",
    classes=(),
    counts=(
        Count("train", 1_281_167, verified=False),
        Count("val", 50_000, verified=False),
    ),
    image_size="various",
    traps=(
        "The 1,000 classes are numbered by sorted synset, the names of the folders.",
        "Where the images of val lie in one folder without classes, sort them into folders like those of train first.",
    ),
    unverified=("terms",),
)
