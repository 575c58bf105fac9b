"""HIT-UAV (Scientific Data 10, 227, 2023)."""

from __future__ import annotations

from fledge.data.catalogue.known import Count, KnownDataset

HIT_UAV_CLASSES = ("Person", "Car", "Bicycle", "OtherVehicle")

HIT_UAV = KnownDataset(
    key="hit-uav",
    title="HIT-UAV",
    task="detection",
    page="https://github.com/suojiashun/HIT-UAV-Infrared-Thermal-Dataset",
    terms="CC BY 4.0",
    format="hit_uav",
    tree="""\
rotate_json/annotations/{train,val,test}.json
rotate_json/{train,val,test}/0_60_30_0_01234.jpg
or rotate_xml/{Annotations,ImageSets/Main,JPEGImages}""",
    classes=HIT_UAV_CLASSES,
    counts=(
        Count("", 2898, 24_899, note="148 of them DontCare"),
        Count("train", 2029, 17_628),
        Count("val", 290, 2460),
        Count("test", 579, 4811),
    ),
    split_rule="The published split is random over video frames and leaks; split by flight date.",
    image_size="640 x 512",
    shapes=("oriented", "horizontal"),
    class_counts={"Person": 12_312, "Car": 7311, "Bicycle": 4980, "OtherVehicle": 148},
    other_formats={"hit_uav_xml": "rotate_xml/"},
    traps=(
        "DontCare (148 boxes) is a region to ignore, not a class.",
        "normal_json has other keys and boxes from the top left corner, although its README says centre.",
        "The side w is not always the long one; 81 % of the Person boxes have angle 0.",
        "312 of 579 test images have a training frame within two frames.",
    ),
)
