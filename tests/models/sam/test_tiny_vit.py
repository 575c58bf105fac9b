"""The encoder against a slow one written from the architecture, which reads the official names."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fledge.models.sam.tiny_vit import TinyViT

from .official import random_tensors, tiny_vit

Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def given() -> Tensors:
    return {k: v.double() for k, v in random_tensors(dict(tiny_vit())).items()}


def loaded(given: Tensors) -> TinyViT:
    model = TinyViT().double().eval()
    model.load_state_dict({k: given[model.official(k)] for k in model.state_dict()})
    return model


@pytest.fixture(scope="module")
def encoder(given: Tensors) -> TinyViT:
    return loaded(given).requires_grad_(False)


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def unit(p: Tensors, name: str, x: Tensor, stride: int = 1) -> Tensor:
    """Convolution and batch norm, out of running statistics."""
    kernel = p[f"{name}.c.weight"]
    groups = x.shape[1] // kernel.shape[1]
    x = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2, groups=groups)
    mean, var, weight, bias = (
        p[f"{name}.bn.{k}"][:, None, None] for k in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def norm(p: Tensors, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    """Over the last dimension."""
    mean = x.mean(dim=-1, keepdim=True)
    var = ((x - mean) ** 2).mean(dim=-1, keepdim=True)
    return (x - mean) / (var + eps).sqrt() * p[f"{name}.weight"] + p[f"{name}.bias"]


def linear(p: Tensors, name: str, x: Tensor) -> Tensor:
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def bias_table(biases: Tensor, window: int) -> Tensor:
    """(window², window²) of one head, cell by cell: the bias of the distance along rows and columns."""
    table = torch.zeros(window**2, window**2, dtype=biases.dtype)
    values = biases.tolist()
    rows = [
        [values[abs(a // window - b // window) * window + abs(a % window - b % window)] for b in range(window**2)]
        for a in range(window**2)
    ]
    return table + torch.tensor(rows, dtype=biases.dtype)


def window_attention(p: Tensors, name: str, x: Tensor, window: int) -> Tensor:
    """(B, H, W, C), window by window and head by head; the padding is zeros, and attended to."""
    batch, height, width, channels = x.shape
    padded = torch.zeros(batch, -(-height // window) * window, -(-width // window) * window, channels, dtype=x.dtype)
    padded[:, :height, :width] = x
    out = torch.zeros_like(padded)
    tables = [bias_table(head, window) for head in p[f"{name}.attention_biases"]]
    for b in range(batch):
        for top in range(0, padded.shape[1], window):
            for left in range(0, padded.shape[2], window):
                place = (b, slice(top, top + window), slice(left, left + window))
                tokens = norm(p, f"{name}.norm", padded[place].reshape(-1, channels))
                mixed = linear(p, f"{name}.qkv", tokens)
                heads = []
                for h, table in enumerate(tables):
                    q, k, v = (mixed[:, 96 * h + 32 * part : 96 * h + 32 * part + 32] for part in range(3))
                    logits = q @ k.T / math.sqrt(32) + table
                    weights = torch.exp(logits - logits.max(dim=1, keepdim=True).values)
                    heads.append(weights / weights.sum(dim=1, keepdim=True) @ v)
                out[place] = linear(p, f"{name}.proj", torch.cat(heads, dim=1)).reshape(window, window, channels)
    return out[:, :height, :width]


def mbconv(p: Tensors, name: str, x: Tensor) -> Tensor:
    inner = gelu(unit(p, f"{name}.conv2", gelu(unit(p, f"{name}.conv1", x))))
    return gelu(x + unit(p, f"{name}.conv3", inner))


def downsample(p: Tensors, name: str, x: Tensor, stride: int) -> Tensor:
    return unit(p, f"{name}.conv3", gelu(unit(p, f"{name}.conv2", gelu(unit(p, f"{name}.conv1", x)), stride)))


def block(p: Tensors, name: str, x: Tensor, window: int) -> Tensor:
    """(B, C, H, W)."""
    x = x + window_attention(p, f"{name}.attn", x.permute(0, 2, 3, 1), window).permute(0, 3, 1, 2)
    cells = unit(p, f"{name}.local_conv", x).permute(0, 2, 3, 1)
    inner = gelu(linear(p, f"{name}.mlp.fc1", norm(p, f"{name}.mlp.norm", cells)))
    return (cells + linear(p, f"{name}.mlp.fc2", inner)).permute(0, 3, 1, 2)


def reference(p: Tensors, x: Tensor) -> Tensor:
    x = unit(p, "patch_embed.seq.2", gelu(unit(p, "patch_embed.seq.0", x, 2)), 2)
    for i, (depth, window, stride) in enumerate(((2, 0, 2), (2, 7, 2), (6, 14, 1), (2, 7, 0))):
        for j in range(depth):
            name = f"layers.{i}.blocks.{j}"
            x = block(p, name, x, window) if i else mbconv(p, name, x)
        if stride:
            x = downsample(p, f"layers.{i}.downsample", x, stride)
    x = F.conv2d(x, p["neck.0.weight"])
    x = norm(p, "neck.1", x.permute(0, 2, 3, 1), 1e-6).permute(0, 3, 1, 2)
    x = F.conv2d(x, p["neck.2.weight"], padding=1)
    return norm(p, "neck.3", x.permute(0, 2, 3, 1), 1e-6).permute(0, 3, 1, 2)


def images(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("size", [(64, 64), (96, 160), pytest.param((1024, 1024), marks=pytest.mark.slow)])
def test_the_whole_encoder(encoder: TinyViT, given: Tensors, size: tuple[int, int]) -> None:
    x = images(1, 3, *size)
    expected = reference(given, x)
    assert expected.shape == (1, 256, size[0] // 16, size[1] // 16)
    torch.testing.assert_close(encoder(x), expected, atol=1e-9, rtol=1e-9)


def test_one_block_with_padded_windows(encoder: TinyViT, given: Tensors) -> None:
    x = images(2, 160, 15, 20)
    own = encoder.body.stages[2].blocks[3](x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(own, block(given, "layers.2.blocks.3", x, 14), atol=1e-10, rtol=1e-10)
    x = images(1, 128, 7, 7)
    own = encoder.body.stages[1].blocks[0](x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(own, block(given, "layers.1.blocks.0", x, 7), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("window", [2, 7, 14])
def test_biases_are_numbered_by_first_appearance(window: int) -> None:
    """What timm and the official code do, against the formula."""
    order: dict[tuple[int, int], int] = {}
    cells = [(y, x) for y in range(window) for x in range(window)]
    for a in cells:
        for b in cells:
            order.setdefault((abs(a[0] - b[0]), abs(a[1] - b[1])), len(order))
    assert order == {(dy, dx): dy * window + dx for dy in range(window) for dx in range(window)}


def test_biases_count(encoder: TinyViT, given: Tensors) -> None:
    """They are part of the reference: without them it is another function."""
    without = {k: torch.zeros_like(v) if k.endswith("attention_biases") else v for k, v in given.items()}
    x = images(1, 3, 64, 64)
    assert (encoder(x) - reference(without, x)).abs().max() > 0.01


def test_weights_loaded_after_a_forward_count_whole(given: Tensors) -> None:
    """timm keeps gathered biases in eval mode."""
    model = TinyViT().double().eval()
    x = images(1, 3, 64, 64)
    with torch.no_grad():
        model(x)
        model.load_state_dict({k: given[model.official(k)] for k in model.state_dict()})
        assert not model.training
        assert torch.equal(model(x), loaded(given)(x))


def test_an_image_does_not_see_the_others_of_its_batch(encoder: TinyViT) -> None:
    x = images(3, 3, 64, 96)
    together = encoder(x)
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], encoder(x[i : i + 1]), atol=1e-12, rtol=1e-12)


def test_float32_is_close(given: Tensors, encoder: TinyViT) -> None:
    single = TinyViT().eval()
    single.load_state_dict({k: given[single.official(k)].float() for k in single.state_dict()})
    x = images(1, 3, 64, 64)
    with torch.no_grad():
        first, again = single(x.float()), single(x.float())
    assert torch.equal(first, again)
    assert (first - encoder(x)).abs().max() < 1e-4 * encoder(x).abs().max()
