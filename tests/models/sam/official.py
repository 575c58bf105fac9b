"""Every name and shape of the official checkpoint files, computed from the architectures; imports nothing of fledge."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

Shape = tuple[int, ...]
Keys = dict[str, Shape]

# Width, blocks, heads, and blocks with attention over the whole image.
VITS = {
    "sam_vit_b": (768, 12, 12, {2, 5, 8, 11}),
    "sam_vit_l": (1024, 24, 16, {5, 11, 17, 23}),
    "sam_vit_h": (1280, 32, 16, {7, 15, 23, 31}),
}
LEARNED = re.compile(r"(embed|embeddings\.\d|tokens?)\.weight$")  # vectors, not layers
# Tensors and numbers of each file.
TOTALS = {
    "mobilesam": (439, 10140231),
    "sam_vit_b": (314, 93735728),
    "sam_vit_l": (482, 312343088),
    "sam_vit_h": (594, 641090864),
}


def keys_of(name: str) -> Keys:
    """All of a file."""
    encoder = dict(tiny_vit()) if name == "mobilesam" else {official: shape for _, official, shape in vit(name)}
    return {**{f"image_encoder.{k}": v for k, v in encoder.items()}, **dict(prompt_encoder()), **dict(mask_decoder())}


def elements(keys: Keys) -> int:
    return sum(math.prod(shape) for shape in keys.values())


def random_tensors(keys: Keys, seed: int = 0) -> dict[str, Tensor]:
    """Numbers under which no part of a network is without effect, and none overwhelms the others."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in keys.items():
        if name.endswith("num_batches_tracked"):
            found[name] = torch.tensor(7)
            continue
        value = torch.randn(shape, generator=generator)
        if name.endswith("running_var"):
            value = value.abs() + 0.5
        elif len(shape) == 1 and name.endswith("weight"):
            value = 1 + value / 4
        elif len(shape) > 1 and name.endswith("weight") and not LEARNED.search(name):
            value = value / math.sqrt(math.prod(shape[1:]))
        found[name] = value
    return found


def _affine(name: str, width: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _linear(name: str, out: int, *rest: int, bias: int | None = None) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (out, *rest)
    yield f"{name}.bias", (out if bias is None else bias,)


def _unit(name: str, out: int, *rest: int) -> Iterator[tuple[str, Shape]]:
    """A convolution without bias, and its batch norm."""
    yield f"{name}.c.weight", (out, *rest)
    yield from _affine(f"{name}.bn", out)
    yield f"{name}.bn.running_mean", (out,)
    yield f"{name}.bn.running_var", (out,)
    yield f"{name}.bn.num_batches_tracked", ()


def _neck(width: int) -> Iterator[tuple[str, Shape]]:
    yield "neck.0.weight", (256, width, 1, 1)
    yield from _affine("neck.1", 256)
    yield "neck.2.weight", (256, 256, 3, 3)
    yield from _affine("neck.3", 256)


def tiny_vit() -> Iterator[tuple[str, Shape]]:
    widths, depths, windows = (64, 128, 160, 320), (2, 2, 6, 2), (0, 7, 14, 7)
    yield from _unit("patch_embed.seq.0", 32, 3, 3, 3)
    yield from _unit("patch_embed.seq.2", 64, 32, 3, 3)
    for i, (c, depth, window) in enumerate(zip(widths, depths, windows, strict=True)):
        for j in range(depth):
            block = f"layers.{i}.blocks.{j}"
            if i == 0:
                yield from _unit(f"{block}.conv1", 4 * c, c, 1, 1)
                yield from _unit(f"{block}.conv2", 4 * c, 1, 3, 3)
                yield from _unit(f"{block}.conv3", c, 4 * c, 1, 1)
                continue
            yield f"{block}.attn.attention_biases", (c // 32, window**2)
            yield from _affine(f"{block}.attn.norm", c)
            yield from _linear(f"{block}.attn.qkv", 3 * c, c)
            yield from _linear(f"{block}.attn.proj", c, c)
            yield from _affine(f"{block}.mlp.norm", c)
            yield from _linear(f"{block}.mlp.fc1", 4 * c, c)
            yield from _linear(f"{block}.mlp.fc2", c, 4 * c)
            yield from _unit(f"{block}.local_conv", c, 1, 3, 3)
        if i < 3:
            yield from _unit(f"layers.{i}.downsample.conv1", widths[i + 1], c, 1, 1)
            yield from _unit(f"layers.{i}.downsample.conv2", widths[i + 1], 1, 3, 3)
            yield from _unit(f"layers.{i}.downsample.conv3", widths[i + 1], widths[i + 1], 1, 1)
    yield from _affine("norm_head", 320)
    yield from _linear("head", 1000, 320)
    yield from _neck(320)


def vit(name: str) -> Iterator[tuple[str, str, Shape]]:
    """Names in transformers, official names, and shapes."""
    width, depth, heads, whole = VITS[name]
    yield "pos_embed", "pos_embed", (1, 64, 64, width)
    yield from _both("patch_embed.projection", "patch_embed.proj", _linear("", width, 3, 16, 16))
    for i in range(depth):
        own, official = f"layers.{i}", f"blocks.{i}"
        span = 2 * (64 if i in whole else 14) - 1
        for n in ("1", "2"):
            yield from _both(f"{own}.layer_norm{n}", f"{official}.norm{n}", _affine("", width))
        for axis in "hw":
            yield f"{own}.attn.rel_pos_{axis}", f"{official}.attn.rel_pos_{axis}", (span, width // heads)
        yield from _both(f"{own}.attn.qkv", f"{official}.attn.qkv", _linear("", 3 * width, width))
        yield from _both(f"{own}.attn.proj", f"{official}.attn.proj", _linear("", width, width))
        yield from _both(f"{own}.mlp.lin1", f"{official}.mlp.lin1", _linear("", 4 * width, width))
        yield from _both(f"{own}.mlp.lin2", f"{official}.mlp.lin2", _linear("", width, 4 * width))
    for name_own, (part, shape) in zip(
        (
            "conv1.weight",
            "layer_norm1.weight",
            "layer_norm1.bias",
            "conv2.weight",
            "layer_norm2.weight",
            "layer_norm2.bias",
        ),
        _neck(width),
        strict=True,
    ):
        yield f"neck.{name_own}", part, shape


def _both(own: str, official: str, ends: Iterable[tuple[str, Shape]]) -> Iterator[tuple[str, str, Shape]]:
    for end, shape in ends:
        yield own + end, official + end, shape


def prompt_encoder() -> Iterator[tuple[str, Shape]]:
    p = "prompt_encoder"
    yield f"{p}.pe_layer.positional_encoding_gaussian_matrix", (2, 128)
    for name in (*(f"point_embeddings.{i}" for i in range(4)), "not_a_point_embed", "no_mask_embed"):
        yield f"{p}.{name}.weight", (1, 256)
    yield from _linear(f"{p}.mask_downscaling.0", 4, 1, 2, 2)
    yield from _affine(f"{p}.mask_downscaling.1", 4)
    yield from _linear(f"{p}.mask_downscaling.3", 16, 4, 2, 2)
    yield from _affine(f"{p}.mask_downscaling.4", 16)
    yield from _linear(f"{p}.mask_downscaling.6", 256, 16, 1, 1)


def mask_decoder() -> Iterator[tuple[str, Shape]]:
    m = "mask_decoder"
    t = f"{m}.transformer"
    for i in range(2):
        for part, inner in (("self_attn", 256), ("cross_attn_token_to_image", 128), ("cross_attn_image_to_token", 128)):
            yield from _attention(f"{t}.layers.{i}.{part}", inner)
        for n in range(1, 5):
            yield from _affine(f"{t}.layers.{i}.norm{n}", 256)
        yield from _linear(f"{t}.layers.{i}.mlp.lin1", 2048, 256)
        yield from _linear(f"{t}.layers.{i}.mlp.lin2", 256, 2048)
    yield from _attention(f"{t}.final_attn_token_to_image", 128)
    yield from _affine(f"{t}.norm_final_attn", 256)
    yield f"{m}.iou_token.weight", (1, 256)
    yield f"{m}.mask_tokens.weight", (4, 256)
    yield from _linear(f"{m}.output_upscaling.0", 256, 64, 2, 2, bias=64)
    yield from _affine(f"{m}.output_upscaling.1", 64)
    yield from _linear(f"{m}.output_upscaling.3", 64, 32, 2, 2, bias=32)
    for head, out in (*((f"output_hypernetworks_mlps.{i}", 32) for i in range(4)), ("iou_prediction_head", 4)):
        for i, width in enumerate((256, 256, out)):
            yield from _linear(f"{m}.{head}.layers.{i}", width, 256)


def _attention(name: str, inner: int) -> Iterator[tuple[str, Shape]]:
    for part in "qkv":
        yield from _linear(f"{name}.{part}_proj", inner, 256)
    yield from _linear(f"{name}.out_proj", 256, inner)
