"""LoveDA: land cover of urban and rural scenes, a class a pixel."""

from __future__ import annotations

from fledge.data.catalogue.known import Count, KnownDataset

LOVEDA_CLASSES = ("background", "building", "road", "water", "barren", "forest", "agriculture")

LOVEDA = KnownDataset(
    key="loveda",
    title="LoveDA",
    task="segmentation",
    page="https://github.com/Junjue-Wang/LoveDA",
    terms="CC BY-NC-SA 4.0, academic use only (the page)",
    format="loveda",
    tree="""\
LoveDA/{Train,Val}/{Urban,Rural}/images_png/0.png
LoveDA/{Train,Val}/{Urban,Rural}/masks_png/0.png
LoveDA/Test/{Urban,Rural}/images_png/           the masks of Test are not public""",
    classes=LOVEDA_CLASSES,
    counts=(Count("", 5987, 166_768), Count("train", 2522), Count("val", 1669), Count("test", 1796)),
    split_rule="Train on train, test on val; test goes to the server. Urban to rural and back for domain adaptation.",
    image_size="1,024 x 1,024",
    traps=(
        "Mask files hold 0 for no data, which is not scored, and 1 to 7 for the classes.",
        "Some tools put background at 0 and no data last, although the files do not.",
    ),
)
