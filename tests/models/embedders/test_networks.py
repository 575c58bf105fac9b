"""Embedders by name: MobileSAM and timm networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from tests.models.sam.official import keys_of, random_tensors
from torch import Tensor

from fledge.embedders import build_embedder
from fledge.errors import DataError, UsageError
from fledge.models.embedders.mobile_sam import MobileSam
from fledge.models.weights import file_sha256

REAL = Path(__file__).parents[4] / "shared" / "data" / "weights" / "resnet18_in1k_c2_c4.safetensors"


def image(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    torch.manual_seed(5)
    model = torchvision.models.resnet18(weights=None).eval()
    path = tmp_path_factory.mktemp("timm") / "resnet18.safetensors"
    save_file(model.state_dict(), path)
    return path, model


def test_a_timm_network_gives_its_map_of_stride_16(resnet: tuple[Path, Any]) -> None:
    path, model = resnet
    embedder = build_embedder("timm:resnet18", str(path))
    images = torch.stack([image(64, 96, 1), image(64, 96, 2)])
    maps = embedder(images, torch.tensor([[64, 96], [48, 80]]))
    assert (maps.shape, embedder.channels) == ((2, 256, 4, 6), 256)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    for i, (height, width) in enumerate(((64, 96), (48, 80))):
        x = (images[i : i + 1, :, :height, :width] / 255 - mean[:, None, None]) / std[:, None, None]
        with torch.no_grad():
            x = model.maxpool(model.relu(model.bn1(model.conv1(x))))
            expected = model.layer3(model.layer2(model.layer1(x)))[0]
        torch.testing.assert_close(maps[i, :, : height // 16, : width // 16], expected, atol=1e-4, rtol=1e-4)
    assert not maps[1, :, 3:].any()
    digest = file_sha256(path)[:12]
    assert (
        embedder.describe() == f"timm:resnet18: its map of stride 16, 256 channels; weights {path} (SHA-256 {digest})"
    )


@pytest.mark.skipif(not REAL.exists(), reason="needs the shared data")
def test_a_real_file_that_ends_where_the_map_is() -> None:
    maps = build_embedder("timm:resnet18", str(REAL))(image(64, 64)[None], torch.tensor([[64, 64]]))
    assert maps.shape == (1, 256, 4, 4)
    assert maps.isfinite().all()


def test_half_the_weights_are_refused(resnet: tuple[Path, Any], tmp_path: Path) -> None:
    _, model = resnet
    save_file({k: v for k, v in model.state_dict().items() if "layer3" not in k}, tmp_path / "half.safetensors")
    with pytest.raises(DataError, match=r"not all weights: .*resnet18 would keep 25 random tensors, such as layer3"):
        build_embedder("timm:resnet18", str(tmp_path / "half.safetensors"))


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("timm:resnet18", "", "no weights: embedder timm:resnet18: .*random features"),
        ("timm", "x.pth", "no model: embedder timm:"),
        ("timm:no_such_net", "x.pth", "no feature maps: timm:no_such_net: "),
        ("timm:vit_tiny_patch16_224", "x.pth", r"no pyramid: timm:vit_tiny_patch16_224: strides \[16, 16"),
        ("timm:resnet18", "absent.pth", "no such weights: absent.pth"),
        ("mobilesam", "", r"no weights: embedder mobilesam: fetch mobile_sam\.pt .*6dbb90523a35330f.* from https://"),
        ("mobilesam", "absent.pt", r"no weights of mobilesam: absent\.pt: fetch mobile_sam\.pt"),
        ("edges", "x.pth", "edges have no model and no weights"),
        ("edges:3", "", "edges have no model"),
        ("sobel", "", "unknown embedder 'sobel': use mobilesam, timm:MODEL or edges"),
    ],
)
def test_names_that_cannot_be_right(name: str, weights: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_embedder(name, weights)


def test_edges_with_a_cache_say_so(tmp_path: Path) -> None:
    embedder = build_embedder("edges", cache=tmp_path)
    embedder(image(16, 16)[None], torch.tensor([[16, 16]]))
    embedder(image(16, 16)[None], torch.tensor([[16, 16]]))
    assert embedder.describe().startswith(
        "edges: Sobel magnitude of luminance over 1, 2, 4 pixels; no weights; cached: 1 of 2"
    )


def test_mobilesam_says_whose_weights_it_has_and_how_large_cells_are(tmp_path: Path) -> None:
    path = tmp_path / "mobile_sam.safetensors"
    save_file(random_tensors(keys_of("mobilesam")), path)
    network = MobileSam(path)
    digest = file_sha256(path)
    assert network.describe() == (
        f"mobilesam: image embedding of MobileSAM, 256 channels; weights {path} (SHA-256 {digest[:12]}, not the "
        "published mobile_sam.pt)"
    )
    assert digest in network.identity
    assert network.cell(512, 1024) == (16.0, 16.0)
    assert network.cell(1000, 1500) == (16 * 1000 / 683, 16 * 1500 / 1024)


@pytest.mark.slow
def test_mobilesam_over_a_batch_of_two_sizes(tmp_path: Path) -> None:
    path = tmp_path / "mobile_sam.safetensors"
    save_file(random_tensors(keys_of("mobilesam")), path)
    embedder = build_embedder("mobilesam", str(path))
    images = torch.stack([image(48, 64, 1), image(48, 64, 2)])
    maps = embedder(images, torch.tensor([[48, 64], [24, 40]]))
    assert maps.shape == (2, 256, 48, 64)
    network: Any = embedder.network
    torch.testing.assert_close(maps[0], network.maps([images[0]])[0], atol=1e-4, rtol=1e-4)
    assert not maps[1, :, 24:].any()
    assert not maps[1, :, :, 40:].any()
    assert maps[1, :, :24, :40].abs().mean() > 0.1
