"""Million-AID: a million scenes from Google Earth, nearly all of them without labels."""

from __future__ import annotations

from fledge.data.catalogue.known import Count, KnownDataset

MILLION_AID = KnownDataset(
    key="million-aid",
    title="Million-AID",
    task="unlabelled",
    page="https://captain-whu.github.io/DiRS/",
    terms="",
    format="unlabelled",
    tree="""\
million_aid/train/<first level>/[<second level>/]<class>/*.jpg      labelled, 51 classes
million_aid/test/P0000000.jpg                                       unlabelled""",
    classes=(),
    counts=(
        Count("", 1_000_848),
        Count("train", 10_000, verified=False),
        Count("test", 990_848, verified=False),
    ),
    split_rule="GeRSP pre-trains on it without labels.",
    image_size="various",
    traps=(
        "1,000,848 is train and test together: a folder with test alone has fewer.",
        "The indices of the challenge are not alphabetical: 0 dry_field, 1 greenhouse, 2 paddy_field, …",
        "Class folders stand two or three levels deep.",
    ),
)
