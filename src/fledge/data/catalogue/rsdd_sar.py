"""RSDD-SAR."""

from __future__ import annotations

from fledge.data.catalogue.known import Count, KnownDataset

RSDD_SAR = KnownDataset(
    key="rsdd-sar",
    title="RSDD-SAR",
    task="detection",
    page="https://radars.ac.cn/web/data/getData?dataType=SDD-SAR_en&pageType=en",
    terms="free for research and teaching with citation; commercial use by permission",
    format="rsdd",
    tree="""\
rsdd/JPEGImages/NAME.jpg, rsdd/JPEGValidation/NAME.jpg
rsdd/Annotations/NAME.xml
rsdd/ImageSets/{train,test}.json""",
    classes=("ship",),
    counts=(
        Count("", 7000, 10_263, note="and two uncropped scenes"),
        Count("train", 5000, verified=False),
        Count("test", 2000, verified=False),
    ),
    split_rule="Train on train, test on test.",
    image_size="512 x 512",
    shapes=("oriented",),
    traps=(
        "The tags are roLabelImg's, but h is the long side, and the angle belongs to it.",
        "A converted copy has boxes that are wrong by 90 degrees.",
    ),
    unverified=("split_rule",),
)
