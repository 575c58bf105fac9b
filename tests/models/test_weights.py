from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fledge.errors import DataError, ResourceError, UsageError
from fledge.models import torch_file, weights
from fledge.models.backbones import Backbone
from fledge.models.weights import load_backbone_weights, load_detector_weights

from .conftest import Build

REAL = Path(__file__).parents[3] / "shared" / "data" / "weights" / "resnet18_in1k_c2_c4.safetensors"


class Holder(nn.Module):
    """All that ``load_backbone_weights`` needs of a detector."""

    def __init__(self, name: str = "resnet18", **options: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = Backbone(name, **options)


@pytest.fixture(scope="module")
def resnet() -> dict[str, Tensor]:
    """A torchvision ResNet-18, every tensor different from a fresh one."""
    torch.manual_seed(5)
    model = torchvision.models.resnet18(weights=None)
    return {k: v + 0.01 if v.is_floating_point() else v for k, v in model.state_dict().items()}


def body(holder: nn.Module) -> dict[str, Tensor]:
    return dict(holder.backbone.body.state_dict())  # type: ignore[union-attr]


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.body.", "module.backbone."])
def test_torchvision_names_in_safetensors(resnet: dict[str, Tensor], tmp_path: Path, prefix: str) -> None:
    path = tmp_path / "r.safetensors"
    save_file({prefix + k: v for k, v in resnet.items()}, path)
    holder = Holder()
    loaded = load_backbone_weights(holder, path)
    assert all(torch.equal(value, resnet[name]) for name, value in body(holder).items())
    assert (loaded.untouched, loaded.unused) == ((), ("fc.bias", "fc.weight"))
    assert (len(loaded.loaded), loaded.source) == (100, str(path))
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert str(loaded) == (
        f"weights: {path} ({loaded.sha256[:12]}): loaded 100 tensors (bn1, conv1, layer1, layer2, layer3, layer4); "
        "not used 2 (fc)"
    )


@pytest.mark.parametrize("wrap", ["flat", "state_dict", "deep", "old"])
def test_torch_files_are_unwrapped(resnet: dict[str, Tensor], tmp_path: Path, wrap: str) -> None:
    path = tmp_path / "r.pth"
    if wrap == "deep":
        torch.save({"epoch": 3, "model": {"state_dict": {f"module.{k}": v for k, v in resnet.items()}}}, path)
    else:
        content = {"state_dict": resnet, "epoch": 3} if wrap == "state_dict" else resnet
        torch.save(content, path, _use_new_zipfile_serialization=wrap != "old")
    found = {name.removeprefix("module."): value for name, value in torch_file.read(str(path)).items()}
    assert found.keys() == resnet.keys()
    assert all(torch.equal(value, resnet[name]) for name, value in found.items())


def test_a_torch_file_is_read_in_another_process(resnet: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"state_dict": resnet, "epoch": 3}, tmp_path / "r.pth")
    holder = Holder()
    assert len(load_backbone_weights(holder, tmp_path / "r.pth").loaded) == 100
    assert all(torch.equal(value, resnet[name]) for name, value in body(holder).items())


@pytest.mark.parametrize("bands", [1, 4])
def test_a_stem_of_three_bands_is_fitted_to_others(resnet: dict[str, Tensor], tmp_path: Path, bands: int) -> None:
    save_file(resnet, tmp_path / "r.safetensors")
    holder = Holder(in_channels=bands)
    loaded = load_backbone_weights(holder, tmp_path / "r.safetensors")
    own, theirs = body(holder)["conv1.weight"], resnet["conv1.weight"]
    if bands == 1:
        torch.testing.assert_close(own[:, 0], theirs.sum(dim=1))
    else:
        torch.testing.assert_close(own, theirs[:, [0, 1, 2, 0]] * 3 / 4)
    assert f"conv1.weight: 3 bands {'summed' if bands == 1 else 'repeated and scaled'} to {bands}" in str(loaded)


def test_a_torchvision_mobilenet_computes_the_same(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = torchvision.models.mobilenet_v2(weights=None).eval()
    for name, value in model.state_dict().items():
        if "running" in name:
            value.uniform_(0.5, 1.5)
    save_file(model.state_dict(), tmp_path / "m.safetensors")
    holder = Holder("mobilenetv2_100").eval()
    loaded = load_backbone_weights(holder, tmp_path / "m.safetensors")
    assert loaded.untouched == ()
    assert {name.split(".")[0] for name in loaded.unused} == {"bn2", "classifier", "conv_head"}
    images = torch.randn(1, 3, 64, 64)
    expected = {n: model.features[: i + 1](images) for n, i in (("c3", 6), ("c4", 13), ("c5", 17))}
    for name, value in holder.backbone(images).items():
        torch.testing.assert_close(value, expected[name], atol=1e-4, rtol=1e-4)


@pytest.mark.skipif(not REAL.exists(), reason="needs the shared data")
def test_a_real_file_without_its_last_stage() -> None:
    holder = Holder()
    before = body(holder)
    before = {k: v.clone() for k, v in before.items()}
    loaded = load_backbone_weights(holder, REAL)
    assert {name.split(".")[0] for name in loaded.untouched} == {"layer4"}
    given = load_file(REAL)
    for name, value in body(holder).items():
        assert torch.equal(value, given.get(name, before[name]))


@pytest.mark.parametrize(
    ("backbone", "options", "message"),
    [
        ("resnet50", {}, r"shapes differ: .*layer1\.0\.conv1\.weight \[64, 64, 3, 3\] instead of \[64, 64, 1, 1\]"),
        ("resnet18", {"channels": (16, 32, 64, 128)}, r"shapes differ: .* and \d+ more: name the backbone"),
        (
            "resnet18",
            {"stem_type": "deep", "stem_width": 32},
            r"another stem: .*: conv1\.weight instead of conv1\.0\.weight",
        ),
        ("mobilenetv2_100", {}, "shapes differ"),
    ],
)
def test_other_backbones_are_refused_whole(
    resnet: dict[str, Tensor], tmp_path: Path, backbone: str, options: dict[str, Any], message: str
) -> None:
    save_file(resnet, tmp_path / "r.safetensors")
    holder = Holder(backbone, **options)
    before = {k: v.clone() for k, v in body(holder).items()}
    with pytest.raises(DataError, match=message):
        load_backbone_weights(holder, tmp_path / "r.safetensors")
    assert all(torch.equal(value, before[name]) for name, value in body(holder).items())


def test_nothing_that_fits_and_ambiguous_names(tmp_path: Path) -> None:
    save_file({"strange": torch.ones(2)}, tmp_path / "a.safetensors")
    with pytest.raises(DataError, match=r"no weights fit: .*it has strange; the backbone bn1"):
        load_backbone_weights(Holder(), tmp_path / "a.safetensors")
    save_file({"conv1.weight": torch.ones(2), "module.conv1.weight": torch.ones(2)}, tmp_path / "b.safetensors")
    with pytest.raises(DataError, match="ambiguous weights"):
        load_backbone_weights(Holder(), tmp_path / "b.safetensors")


@pytest.mark.parametrize("name", ["absent.pth", "resnet18.nonsense", "nonsense"])
def test_neither_file_nor_name(name: str) -> None:
    with pytest.raises(UsageError, match=r"no such weights: .*resnet50.tv_in1k"):
        load_backbone_weights(Holder(), name)


def test_a_timm_name(resnet: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file(resnet, tmp_path / "model.safetensors")
    asked = []

    def download(repository: str, file: str) -> str:
        asked.append((repository, file))
        if "resnet34" in repository:
            raise OSError("no route to host\nand more")
        return str(tmp_path / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    loaded = load_backbone_weights(Holder(), "resnet18.tv_in1k")
    assert asked == [("timm/resnet18.tv_in1k", "model.safetensors")]
    assert (loaded.source, len(loaded.loaded)) == ("resnet18.tv_in1k", 100)
    assert loaded.sha256 == weights.file_sha256(tmp_path / "model.safetensors")
    with pytest.raises(ResourceError, match=r"resnet34.tv_in1k: no route to host: fetch model.safetensors of timm/"):
        load_backbone_weights(Holder("resnet34"), "resnet34.tv_in1k")


def test_a_whole_detector(build: Build) -> None:
    start, fresh = build(3, seed=1), build(3, seed=2)
    loaded = load_detector_weights(fresh, start, "runs/a", "0" * 64)
    assert all(torch.equal(v, start.state_dict()[k]) for k, v in fresh.state_dict().items())
    assert loaded.untouched == ()
    assert {name.split(".")[0] for name in loaded.loaded} == {"backbone", "neck", "head"}
    with pytest.raises(DataError, match="another architecture"):
        load_detector_weights(build(3, head_convs=2), start, "runs/a", "")
    with pytest.raises(DataError, match="shapes differ"):
        load_detector_weights(build(3, neck_channels=8), start, "runs/a", "")
