"""Prompt encoder and mask decoder against those of transformers, on the same random weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fledge.models.sam.sam import Embedded, Prompts, Sam

from .official import mask_decoder, prompt_encoder, random_tensors

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
# Part of an official name -> in transformers, applied in this order.
PARTS = {
    "iou_prediction_head.layers.0": "iou_prediction_head.proj_in",
    "iou_prediction_head.layers.1": "iou_prediction_head.layers.0",
    "iou_prediction_head.layers.2": "iou_prediction_head.proj_out",
    **{
        f"output_hypernetworks_mlps.{i}.layers.{a}": f"output_hypernetworks_mlps.{i}.{b}"
        for i in range(4)
        for a, b in (("0", "proj_in"), ("1", "layers.0"), ("2", "proj_out"))
    },
    "output_upscaling.0": "upscale_conv1",
    "output_upscaling.1": "upscale_layer_norm",
    "output_upscaling.3": "upscale_conv2",
    "mask_downscaling.0": "mask_embed.conv1",
    "mask_downscaling.1": "mask_embed.layer_norm1",
    "mask_downscaling.3": "mask_embed.conv2",
    "mask_downscaling.4": "mask_embed.layer_norm2",
    "mask_downscaling.6": "mask_embed.conv3",
    "point_embeddings": "point_embed",
    "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix": "shared_image_embedding.positional_embedding",
    ".norm": ".layer_norm",
}


@pytest.fixture(scope="module")
def both() -> tuple[Sam, Any]:
    given = random_tensors(dict(prompt_encoder()) | dict(mask_decoder()), seed=2)
    sam = Sam(nn.Identity())
    sam.load_state_dict(given)
    config = transformers.SamConfig(
        vision_config=transformers.SamVisionConfig(num_hidden_layers=0),
        mask_decoder_config=transformers.SamMaskDecoderConfig(layer_norm_eps=1e-5),  # the official one; not the default
    )
    theirs = transformers.SamModel(config).eval()
    renamed = {}
    for name, value in given.items():
        for official, own in PARTS.items():
            name = name.replace(official, own)
        renamed[name] = value
    shared = "shared_image_embedding.positional_embedding"
    renamed["prompt_encoder.shared_embedding.positional_embedding"] = renamed[shared]
    left = theirs.load_state_dict(renamed, strict=False)
    assert not left.unexpected_keys
    assert all(key.startswith("vision_encoder.") for key in left.missing_keys)
    return sam, theirs


def uniform(*shape: int, seed: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("kinds", ["points", "boxes", "points boxes", "points masks"])
def test_masks(both: tuple[Sam, Any], kinds: str, multimask: bool) -> None:
    sam, theirs = both
    image = uniform(256, 64, 64, seed=1) * 4 - 2
    points, boxes = uniform(3, 2, 2, seed=2) * 1024, uniform(3, 4, seed=3) * 1024
    labels, masks = torch.tensor([[1, 0], [1, 1], [0, -1]]), uniform(1, 1, 256, 256, seed=4) * 8 - 4
    own: dict[str, Tensor] = {}
    other: dict[str, Tensor] = {}
    if "points" in kinds:
        own, other = {"points": points, "labels": labels}, {"input_points": points[None], "input_labels": labels[None]}
    if "boxes" in kinds:
        own["boxes"], other["input_boxes"] = boxes, boxes[None]
    if "masks" in kinds:
        own["masks"], other["input_masks"] = masks.expand(3, -1, -1, -1), masks
    logits, iou = sam.masks(Embedded(image, (1024, 1024)), Prompts(**own), multimask)
    with torch.no_grad():
        expected = theirs(image_embeddings=image[None], multimask_output=multimask, **other)
    torch.testing.assert_close(logits, expected.pred_masks[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(iou, expected.iou_scores[0], atol=1e-4, rtol=1e-4)


def test_places(both: tuple[Sam, Any]) -> None:
    sam, theirs = both
    torch.testing.assert_close(sam.prompt_encoder.places(), theirs.get_image_wide_positional_embeddings())
