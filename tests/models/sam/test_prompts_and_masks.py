"""Prompt encoder and mask decoder against slow ones that read the official names."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from fledge.models.sam.mask_decoder import Attention, MaskDecoder, TwoWayBlock
from fledge.models.sam.prompt_encoder import PromptEncoder

from .official import mask_decoder, prompt_encoder, random_tensors

Tensors = dict[str, Tensor]


def tensors(keys: Any, prefix: str) -> Tensors:
    return {k.removeprefix(prefix): v.double() for k, v in random_tensors(dict(keys), seed=5).items()}


PROMPTS = tensors(prompt_encoder(), "prompt_encoder.")
MASKS = tensors(mask_decoder(), "mask_decoder.")


@pytest.fixture(scope="module")
def encoder() -> PromptEncoder:
    model = PromptEncoder().double().requires_grad_(False)
    model.load_state_dict(PROMPTS)
    return model


@pytest.fixture(scope="module")
def decoder() -> MaskDecoder:
    model = MaskDecoder().double().requires_grad_(False)
    model.load_state_dict(MASKS)
    return model


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def code(x: float, y: float) -> list[float]:
    """The code of a place in the frame, number by number."""
    matrix = PROMPTS["pe_layer.positional_encoding_gaussian_matrix"].tolist()
    u, v = 2 * (x + 0.5) / 1024 - 1, 2 * (y + 0.5) / 1024 - 1
    angles = [2 * math.pi * (u * a + v * b) for a, b in zip(*matrix, strict=True)]
    return [math.sin(a) for a in angles] + [math.cos(a) for a in angles]


def tensor(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def learned(kind: int) -> Tensor:
    return PROMPTS[f"point_embeddings.{kind}.weight"][0]


NOTHING = PROMPTS["not_a_point_embed.weight"][0]


def test_points(encoder: PromptEncoder) -> None:
    points = torch.tensor([[[0.0, 0.0], [1023.0, 511.5], [7.0, 9.0]]], dtype=torch.float64)
    tokens, dense = encoder(points, torch.tensor([[1, 0, -1]]))
    assert tokens.shape == (1, 4, 256)
    expected = [tensor(code(0, 0)) + learned(1), tensor(code(1023, 511.5)) + learned(0), NOTHING, NOTHING]
    torch.testing.assert_close(tokens[0], torch.stack(expected), atol=1e-11, rtol=0)
    nothing = PROMPTS["no_mask_embed.weight"][0]
    assert torch.equal(dense, nothing[None, :, None, None].expand(1, 256, 64, 64))


def test_boxes_and_points(encoder: PromptEncoder) -> None:
    boxes = torch.tensor([[1.0, 2.0, 30.0, 40.0]], dtype=torch.float64)
    corners = torch.stack([tensor(code(1, 2)) + learned(2), tensor(code(30, 40)) + learned(3)])
    tokens, _ = encoder(boxes=boxes)
    torch.testing.assert_close(tokens[0], corners, atol=1e-11, rtol=0)
    both, _ = encoder(torch.zeros(1, 1, 2, dtype=torch.float64), torch.tensor([[1]]), boxes)
    assert both.shape == (1, 3, 256), "with a box, no point is added that is none"
    torch.testing.assert_close(both[0, 1:], corners, atol=1e-11, rtol=0)
    torch.testing.assert_close(both[0, 0], tensor(code(0, 0)) + learned(1), atol=1e-11, rtol=0)


def test_places_are_those_of_the_cells(encoder: PromptEncoder) -> None:
    places = encoder.places()
    assert places.shape == (1, 256, 64, 64)
    for row, column in ((0, 0), (5, 63), (40, 2)):  # centre of a cell of 16 pixels, in numbers of pixels
        expected = tensor(code(16 * column + 7.5, 16 * row + 7.5))
        torch.testing.assert_close(places[0, :, row, column], expected, atol=1e-11, rtol=0)


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def pixel_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """One pixel's channels (C,)."""
    return (x - x.mean()) / ((x - x.mean()).square().mean() + eps).sqrt() * weight + bias


def test_masks_as_prompts(encoder: PromptEncoder) -> None:
    masks = random(2, 1, 256, 256)
    tokens, dense = encoder(masks=masks)
    assert (tokens.shape, dense.shape) == ((2, 0, 256), (2, 256, 64, 64))
    p = {k.removeprefix("mask_downscaling."): v for k, v in PROMPTS.items()}
    for image, row, column in ((0, 0, 0), (1, 63, 7)):
        patch = masks[image, 0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        first = torch.zeros(4, 2, 2, dtype=torch.float64)
        for y in range(2):
            for x in range(2):
                piece = patch[2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
                made = torch.stack([(p["0.weight"][c, 0] * piece).sum() + p["0.bias"][c] for c in range(4)])
                first[:, y, x] = gelu(pixel_norm(made, p["1.weight"], p["1.bias"], 1e-6))
        made = torch.stack([(p["3.weight"][c] * first).sum() + p["3.bias"][c] for c in range(16)])
        second = gelu(pixel_norm(made, p["4.weight"], p["4.bias"], 1e-6))
        expected = p["6.weight"][:, :, 0, 0] @ second + p["6.bias"]
        torch.testing.assert_close(dense[image, :, row, column], expected, atol=1e-10, rtol=1e-10)


def linear(p: Tensors, name: str, x: Tensor) -> Tensor:
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def norm(p: Tensors, name: str, x: Tensor) -> Tensor:
    return torch.stack([pixel_norm(row, p[f"{name}.weight"], p[f"{name}.bias"], 1e-5) for row in x])


def attend(p: Tensors, name: str, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(N, 256) and (M, 256), query by query and head by head."""
    queries, keys, values = (linear(p, f"{name}.{n}_proj", x) for n, x in (("q", q), ("k", k), ("v", v)))
    size = queries.shape[1] // 8
    rows = []
    for query in queries:
        heads = []
        for h in range(8):
            part = slice(h * size, (h + 1) * size)
            weights = torch.exp(keys[:, part] @ query[part] / math.sqrt(size))
            heads.append((weights / weights.sum()) @ values[:, part])
        rows.append(torch.cat(heads))
    return linear(p, f"{name}.out_proj", torch.stack(rows))


def two_way(p: Tensors, name: str, tokens: Tensor, image: Tensor, prompts: Tensor, places: Tensor, first: bool) -> Any:
    if first:
        tokens = attend(p, f"{name}.self_attn", tokens, tokens, tokens)
    else:
        tokens = tokens + attend(p, f"{name}.self_attn", tokens + prompts, tokens + prompts, tokens)
    tokens = norm(p, f"{name}.norm1", tokens)
    seen = attend(p, f"{name}.cross_attn_token_to_image", tokens + prompts, image + places, image)
    tokens = norm(p, f"{name}.norm2", tokens + seen)
    inner = linear(p, f"{name}.mlp.lin1", tokens).clamp(min=0)
    tokens = norm(p, f"{name}.norm3", tokens + linear(p, f"{name}.mlp.lin2", inner))
    back = attend(p, f"{name}.cross_attn_image_to_token", image + places, tokens + prompts, tokens)
    return tokens, norm(p, f"{name}.norm4", image + back)


@pytest.mark.parametrize("inner", [128, 256])
def test_attention(decoder: MaskDecoder, inner: int) -> None:
    name = "self_attn" if inner == 256 else "cross_attn_token_to_image"
    own: Attention = getattr(decoder.transformer.layers[1], name)
    q, k, v = random(1, 3, 256, seed=1), random(1, 7, 256, seed=2), random(1, 7, 256, seed=3)
    expected = attend(MASKS, f"transformer.layers.1.{name}", q[0], k[0], v[0])
    torch.testing.assert_close(own(q, k, v)[0], expected, atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("index", [0, 1])
def test_two_way_block(decoder: MaskDecoder, index: int) -> None:
    block: Any = decoder.transformer.layers[index]
    assert isinstance(block, TwoWayBlock)
    tokens, prompts, image, places = (random(n, 256, seed=n) for n in (4, 5, 9, 10))
    prompts, places = prompts[:4], places[:9]
    own = block(tokens[None], image[None], prompts[None], places[None])
    expected = two_way(MASKS, f"transformer.layers.{index}", tokens, image, prompts, places, first=index == 0)
    for a, b in zip(own, expected, strict=True):
        torch.testing.assert_close(a[0], b, atol=1e-10, rtol=1e-10)


def head(p: Tensors, name: str, x: Tensor) -> Tensor:
    for i in range(3):
        x = linear(p, f"{name}.layers.{i}", x)
        x = x.clamp(min=0) if i < 2 else x
    return x


def fine(p: Tensors, x: Tensor) -> Tensor:
    """(256, h, w) to (32, 4h, 4w): every pixel becomes 2 × 2, twice."""
    for conv, norm_name in (("0", "1"), ("3", "")):
        _, height, width = x.shape
        weight, bias = p[f"output_upscaling.{conv}.weight"], p[f"output_upscaling.{conv}.bias"]
        out = torch.zeros(weight.shape[1], 2 * height, 2 * width, dtype=x.dtype)
        for row in range(2 * height):
            for column in range(2 * width):
                value = x[:, row // 2, column // 2] @ weight[:, :, row % 2, column % 2] + bias
                if norm_name:
                    n = f"output_upscaling.{norm_name}"
                    value = pixel_norm(value, p[f"{n}.weight"], p[f"{n}.bias"], 1e-6)
                out[:, row, column] = gelu(value)
        x = out
    return x


def slow_masks(p: Tensors, image: Tensor, places: Tensor, sparse: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
    """One prompt (N, 256) on (256, h, w): all four masks and their IoU."""
    height, width = image.shape[1:]
    prompts = torch.cat([p["iou_token.weight"], p["mask_tokens.weight"], sparse])
    cells, where = ((x).flatten(1).T for x in (image + dense, places))
    tokens = prompts
    for i in range(2):
        tokens, cells = two_way(p, f"transformer.layers.{i}", tokens, cells, prompts, where, first=i == 0)
    last = attend(p, "transformer.final_attn_token_to_image", tokens + prompts, cells + where, cells)
    tokens = norm(p, "transformer.norm_final_attn", tokens + last)
    maps = fine(p, cells.T.reshape(256, height, width))
    mixes = torch.stack([head(p, f"output_hypernetworks_mlps.{i}", tokens[1 + i]) for i in range(4)])
    masks = torch.stack([(mix[:, None, None] * maps).sum(dim=0) for mix in mixes])
    return masks, head(p, "iou_prediction_head", tokens[0])


def test_the_whole_decoder(decoder: MaskDecoder) -> None:
    image, places, dense = random(1, 256, 3, 4), random(1, 256, 3, 4, seed=1), random(1, 256, 3, 4, seed=2)
    sparse = random(2, 3, 256, seed=4)
    several, iou = decoder(image, places, sparse, dense, multimask=True)
    one, one_iou = decoder(image, places, sparse, dense, multimask=False)
    assert (several.shape, iou.shape, one.shape, one_iou.shape) == ((2, 3, 12, 16), (2, 3), (2, 1, 12, 16), (2, 1))
    for i in range(2):
        masks, ious = slow_masks(MASKS, image[0], places[0], sparse[i], dense[0])
        torch.testing.assert_close(torch.cat([one[i], several[i]]), masks, atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(torch.cat([one_iou[i], iou[i]]), ious, atol=1e-9, rtol=1e-9)


def test_a_prompt_does_not_see_the_others(decoder: MaskDecoder) -> None:
    image, places = random(1, 256, 4, 4), random(1, 256, 4, 4, seed=1)
    sparse, dense = random(5, 2, 256, seed=4), random(5, 256, 4, 4, seed=6)
    together = decoder(image, places, sparse, dense, multimask=True)
    for i in range(5):
        alone = decoder(image, places, sparse[i : i + 1], dense[i : i + 1], multimask=True)
        for a, b in zip(alone, together, strict=True):
            torch.testing.assert_close(a[0], b[i], atol=1e-12, rtol=1e-12)
