"""The ViT of transformers under official names, against a slow one written from the architecture."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fledge.models.sam.vit import Shape, ViT

from .official import random_tensors

pytest.importorskip("transformers", reason="transformers is not installed")
Tensors = dict[str, Tensor]
SHAPE = Shape(32, 2, 2, (1,))


def norm(p: Tensors, name: str, x: Tensor) -> Tensor:
    mean = x.mean(dim=-1, keepdim=True)
    var = ((x - mean) ** 2).mean(dim=-1, keepdim=True)
    return (x - mean) / (var + 1e-6).sqrt() * p[f"{name}.weight"] + p[f"{name}.bias"]


def linear(p: Tensors, name: str, x: Tensor) -> Tensor:
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def attention(p: Tensors, name: str, x: Tensor) -> Tensor:
    """(H, W, C): rows and columns as far apart as they are add their products with the unscaled query."""
    height, width, channels = x.shape
    mixed = linear(p, f"{name}.qkv", x.reshape(-1, channels))
    size = channels // SHAPE.heads
    heads = []
    y, x_ = (g.flatten() for g in torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
    for h in range(SHAPE.heads):
        q, k, v = (mixed[:, part * channels + h * size : part * channels + (h + 1) * size] for part in range(3))
        rows = q @ p[f"{name}.rel_pos_h"].T  # (HW, 2H - 1): by distance
        columns = q @ p[f"{name}.rel_pos_w"].T
        logits = q @ k.T / math.sqrt(size)
        logits = logits + rows.gather(1, y[:, None] - y[None] + height - 1)
        logits = logits + columns.gather(1, x_[:, None] - x_[None] + width - 1)
        heads.append(logits.softmax(dim=1) @ v)
    return linear(p, f"{name}.proj", torch.cat(heads, dim=1)).reshape(height, width, channels)


def windows(p: Tensors, name: str, x: Tensor) -> Tensor:
    padded = F.pad(x, (0, 0, 0, 6, 0, 6))
    out = torch.zeros_like(padded)
    for top in range(0, 70, 14):
        for left in range(0, 70, 14):
            out[top : top + 14, left : left + 14] = attention(p, name, padded[top : top + 14, left : left + 14])
    return out[:64, :64]


def reference(p: Tensors, image: Tensor) -> Tensor:
    x = F.conv2d(image, p["patch_embed.proj.weight"], p["patch_embed.proj.bias"], stride=16)[0].permute(1, 2, 0)
    x = x + p["pos_embed"][0]
    for i in range(SHAPE.depth):
        name = f"blocks.{i}"
        attend = attention if i in SHAPE.whole else windows
        x = x + attend(p, f"{name}.attn", norm(p, f"{name}.norm1", x))
        inner = F.gelu(linear(p, f"{name}.mlp.lin1", norm(p, f"{name}.norm2", x)))
        x = x + linear(p, f"{name}.mlp.lin2", inner)
    x = norm(p, "neck.1", F.conv2d(x.permute(2, 0, 1)[None], p["neck.0.weight"]).permute(0, 2, 3, 1))
    x = F.conv2d(x.permute(0, 3, 1, 2), p["neck.2.weight"], padding=1).permute(0, 2, 3, 1)
    return norm(p, "neck.3", x).permute(0, 3, 1, 2)


def test_the_encoder() -> None:
    model = ViT(SHAPE).eval()
    given = random_tensors({model.official(k): tuple(v.shape) for k, v in model.state_dict().items()})
    model.load_state_dict({k: given[model.official(k)] for k in model.state_dict()}, assign=True)
    image = torch.randn(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model(image), reference(given, image), atol=2e-4, rtol=1e-4)
