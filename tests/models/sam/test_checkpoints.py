from __future__ import annotations

import hashlib
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from fledge.errors import DataError, UsageError
from fledge.models.sam import checkpoints
from fledge.models.sam.checkpoints import CHECKPOINTS, load_sam, official_names
from fledge.models.sam.sam import Sam
from fledge.models.sam.tiny_vit import UNUSED, TinyViT
from fledge.models.sam.vit import Shape, ViT

from .official import TOTALS, Keys, elements, keys_of, random_tensors, vit

LISTED = Path(__file__).parents[4] / "shared" / "methods" / "sam_keys.txt"
LINE = re.compile(r"^(\S+) \(([\d,]*)\)(?: int64)?$")
PATTERN = re.compile(r"^(\S*\{i\}\S*) \(([\d,]*)\)   i(?:=0\.\.(\d+)| in \{([\d,]+)\})(?: except \{([\d,]+)\})?")


def numbers(text: str | None) -> tuple[int, ...]:
    return tuple(int(x) for x in (text or "").split(",") if x)


def listed(file: str) -> Keys:
    """The section of a file in the list of keys; patterns are written out."""
    found: Keys = {}
    sections = re.split(r"^== ", LISTED.read_text(), flags=re.MULTILINE)
    section = next(s for s in sections if s.startswith(file))
    for line in section.splitlines():
        if plain := LINE.match(line):
            found[plain[1]] = numbers(plain[2])
        elif many := PATTERN.match(line):
            blocks = numbers(many[4]) if many[4] else tuple(range(int(many[3]) + 1))
            for i in set(blocks) - set(numbers(many[5])):
                found[many[1].replace("{i}", str(i))] = numbers(many[2])
    return found


@pytest.mark.parametrize("name", list(TOTALS))
def test_the_table_has_as_many_tensors_and_numbers_as_the_file(name: str) -> None:
    keys = keys_of(name)
    assert (len(keys), elements(keys)) == TOTALS[name]


@pytest.mark.skipif(not LISTED.exists(), reason="needs the list of keys in ../shared/methods")
@pytest.mark.parametrize("name", list(TOTALS))
def test_the_table_is_the_list(name: str) -> None:
    keys = listed(CHECKPOINTS[name].file)
    if name in ("sam_vit_l", "sam_vit_h"):  # there, the list refers to that of ViT-B for the rest
        keys |= {k: v for k, v in listed(CHECKPOINTS["sam_vit_b"].file).items() if not k.startswith("image_encoder")}
    assert keys == keys_of(name)


def test_every_name_and_shape_of_mobilesam_is_accounted_for() -> None:
    sam = Sam(TinyViT())
    names, own = official_names(sam), sam.state_dict()
    assert len(set(names.values())) == len(names) == 435
    used = {names[k]: tuple(v.shape) for k, v in own.items()}
    unused = {f"image_encoder.{k}" for k in UNUSED}
    assert used == {k: v for k, v in keys_of("mobilesam").items() if k not in unused}
    assert unused <= set(keys_of("mobilesam"))
    parameters = dict(sam.named_parameters())
    assert {k for k in own if k not in parameters and not re.search(r"running|tracked", k)} == {
        "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
    }
    assert sum(p.numel() for p in sam.image_encoder.parameters()) == 5743892
    assert sum(p.numel() for p in parameters.values()) == 9808452


@pytest.mark.parametrize("name", ["sam_vit_b", "sam_vit_l", "sam_vit_h"])
def test_every_name_of_transformers_has_its_official_name(name: str) -> None:
    assert {ViT.official(f"body.{own}"): shape for own, _, shape in vit(name)} == {k: v for _, k, v in vit(name)}


@pytest.mark.parametrize("name", ["sam_vit_b", "sam_vit_l", "sam_vit_h"])
def test_every_name_and_shape_of_the_vits_is_accounted_for(name: str) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    shape = CHECKPOINTS[name].shape
    assert shape is not None
    sam = Sam(ViT(shape))
    names = official_names(sam)
    assert {names[k]: tuple(v.shape) for k, v in sam.state_dict().items()} == keys_of(name)


def test_all_is_loaded(mobile_file: Path) -> None:
    sam, loaded = load_sam("mobilesam", mobile_file)
    given, names = load_file(mobile_file), official_names(sam)
    assert all(torch.equal(v, given[names[k]]) for k, v in sam.state_dict().items())
    assert loaded.untouched == ()
    assert set(loaded.loaded) | set(loaded.unused) == set(keys_of("mobilesam"))
    assert set(loaded.unused) == {f"image_encoder.{k}" for k in UNUSED}
    assert loaded.sha256 == hashlib.sha256(mobile_file.read_bytes()).hexdigest()
    assert loaded.note == "not the published mobile_sam.pt"
    assert not any(p.requires_grad for p in sam.parameters())
    assert not any(m.training for m in sam.train().modules())


@pytest.mark.parametrize("end", [".safetensors", pytest.param(".pt", marks=pytest.mark.slow)])
def test_a_file_with_the_constants_and_the_published_hash(
    mobile_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    given, path = {**load_file(mobile_file), "pixel_mean": torch.zeros(3, 1, 1)}, tmp_path / f"m{end}"
    torch.save(given, path) if end == ".pt" else save_file(given, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(CHECKPOINTS, "mobilesam", replace(CHECKPOINTS["mobilesam"], sha256=digest))
    sam, loaded = load_sam("mobilesam", path)
    assert (loaded.note, "pixel_mean" in loaded.unused) == ("the published file", True)
    assert torch.equal(sam.mask_decoder.iou_token.weight, given["mask_decoder.iou_token.weight"])


def broken(name: str, keys: dict[str, Any]) -> dict[str, Any]:
    if name == "lacks":
        return {k: v for k, v in keys.items() if not k.endswith("attention_biases")}
    if name == "more":
        return {**keys, "image_encoder.layers.3.blocks.2.attn.ab": torch.zeros(10, 49, 49)}
    if name == "shape":
        return {**keys, "prompt_encoder.no_mask_embed.weight": torch.zeros(1, 128)}
    return random_tensors(keys_of("mobilesam") | {"image_encoder.pos_embed": (1, 2, 2, 4)})


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("lacks", r"it lacks image_encoder\.layers\.1\.blocks\.0\.attn\.attention_biases, .* and 7 more: fetch"),
        ("more", r"it has also image_encoder\.layers\.3\.blocks\.2\.attn\.ab: fetch"),
        ("shape", r"it has prompt_encoder\.no_mask_embed\.weight \[1, 128\] instead of \[1, 256\]: fetch"),
        ("other", r"it has also image_encoder\.pos_embed: fetch"),
    ],
)
def test_another_file_is_refused(mobile_file: Path, fault: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "read_weights", lambda path: broken(fault, load_file(path)))
    with pytest.raises(
        DataError, match=rf"not the weights of mobilesam: .*mobile_sam\.safetensors: {message}"
    ) as caught:
        load_sam("mobilesam", mobile_file)
    assert_says_where(str(caught.value), "mobilesam")


def assert_says_where(message: str, name: str) -> None:
    known = CHECKPOINTS[name]
    assert all(part in message for part in (known.file, known.page, known.sha256, str(known.size)))


@pytest.mark.parametrize("name", list(TOTALS))
def test_an_absent_file_says_where_it_is_found(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"no weights of {name}: ") as caught:
        load_sam(name, tmp_path / "none.pt")
    assert_says_where(str(caught.value), name)


def test_a_damaged_file_says_where_a_whole_one_is_found(mobile_file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(mobile_file.read_bytes()[:-1000])
    with pytest.raises(DataError, match="damaged weights") as caught:
        load_sam("mobilesam", cut)
    assert_says_where(str(caught.value), "mobilesam")
    with pytest.raises(UsageError, match="unknown SAM 'vit_t': use one of mobilesam"):
        load_sam("vit_t", cut)


def test_without_transformers(mobile_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UsageError, match=r"transformers is not installed: .*pip install fledge\[sam\]"):
        load_sam("sam_vit_b", mobile_file)
    assert isinstance(load_sam("mobilesam", mobile_file)[0].image_encoder, nn.Module)


def test_a_vit_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    small = Shape(32, 2, 2, (1,))
    monkeypatch.setitem(CHECKPOINTS, "sam_vit_b", replace(CHECKPOINTS["sam_vit_b"], shape=small))
    names = official_names(Sam(ViT(small)))
    shapes = {names[k]: tuple(v.shape) for k, v in Sam(ViT(small)).state_dict().items()}
    given = random_tensors(shapes)
    save_file({k: v.half() if v.is_floating_point() else v for k, v in given.items()}, tmp_path / "v.safetensors")
    sam, loaded = load_sam("sam_vit_b", tmp_path / "v.safetensors")
    assert all(torch.equal(v, given[names[k]].half().float()) for k, v in sam.state_dict().items())
    assert not any(p.requires_grad or p.is_meta for p in sam.parameters())
    assert loaded.unused == ()
