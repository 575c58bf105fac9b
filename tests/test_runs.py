"""Datasets as recipes read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.data.miniatures import MINIATURES
from tests.faults.tiny import recipe as tiny_recipe
from tests.faults.tiny import tiles

from fledge.errors import DataError, UsageError
from fledge.recipe import make_recipe
from fledge.runs import open_split


def test_a_recipe_names_the_form_of_its_own_data(tmp_path: Path) -> None:
    """DOTA's labels as horizontal boxes; another folder, given on the command line, is read by its own tree."""
    MINIATURES["dota"](tmp_path / "a")
    MINIATURES["coco"](tmp_path / "b")
    recipe = make_recipe({"data": str(tmp_path / "a"), "form": "dota_hbb"}, "r.toml")
    dataset = open_split(recipe, recipe.data, "train")
    assert dataset.format == "dota_hbb"
    assert np.abs(np.sin(2 * dataset.boxes[:, 4])).max() < 1e-6, "upright"
    assert open_split(recipe, tmp_path / "b", "train").format == "coco"
    held_out = make_recipe({"data": "elsewhere", "eval_data": str(tmp_path / "a"), "form": "dota_hbb"}, "r.toml")
    assert open_split(held_out, tmp_path / "a", "val").format == "dota_hbb"
    with pytest.raises(UsageError, match=r"no form 'dotta': .*: choose one of dota, dota_hbb, "):
        open_split(recipe.model_copy(update={"form": "dotta"}), recipe.data, "train")


def test_a_list_picks_images(tmp_path: Path) -> None:
    recipe = tiny_recipe(tiles(tmp_path / "data"), train_list=str(tmp_path / "list.txt"))
    every = open_split(recipe, recipe.data, "train")
    (tmp_path / "list.txt").write_text(f"\ufeff{every.ids[3]}\n\n{every.paths[1].name}\n{every.ids[3]}\n")
    picked = open_split(recipe, recipe.data, "train", names=recipe.train_list)
    assert picked.ids == (every.ids[1], every.ids[3])
    (tmp_path / "list.txt").write_text(f"{every.ids[0]}\nnobody\n")
    with pytest.raises(DataError, match=r"list\.txt:2: no image 'nobody' in 'train'"):
        open_split(recipe, recipe.data, "train", names=recipe.train_list)
    (tmp_path / "list.txt").write_text("\n")
    with pytest.raises(DataError, match="the list is empty"):
        open_split(recipe, recipe.data, "train", names=recipe.train_list)
    with pytest.raises(DataError, match="no list of images"):
        open_split(recipe, recipe.data, "train", names=str(tmp_path / "none.txt"))
