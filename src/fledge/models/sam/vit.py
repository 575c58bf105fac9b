"""SAM's own image encoders, ViT-B, ViT-L and ViT-H, from the library transformers.

Kirillov et al., "Segment Anything", ICCV 2023, arXiv 2304.02643; Li et al., "Exploring Plain Vision Transformer
Backbones for Object Detection", ECCV 2022, arXiv 2203.16527.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from fledge.errors import UsageError


@dataclass(frozen=True)
class Shape:
    """What distinguishes the three.

    Attributes:
        width: channels of a token.
        depth: number of blocks.
        heads: of each block.
        whole: blocks that attend to the whole image; the others attend within windows of 14 × 14.
    """

    width: int
    depth: int
    heads: int
    whole: tuple[int, ...]


# Part of a name in transformers -> in the official file.
_PARTS = {
    "patch_embed.projection.": "patch_embed.proj.",
    "neck.conv1.": "neck.0.",
    "neck.layer_norm1.": "neck.1.",
    "neck.conv2.": "neck.2.",
    "neck.layer_norm2.": "neck.3.",
    "layers.": "blocks.",
    "layer_norm": "norm",
}


class ViT(nn.Module):
    """An image encoder for frames of 1024 × 1024, without memory for its weights until they are loaded.

    Args:
        shape: which of the three.

    Raises:
        UsageError: transformers is not installed.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        try:
            transformers = import_module("transformers")
        except ImportError:
            raise UsageError(
                "transformers is not installed: SAM's ViT needs it: run `pip install fledge[sam]`, or use MobileSAM"
            ) from None
        config = transformers.SamVisionConfig(
            hidden_size=shape.width,
            num_hidden_layers=shape.depth,
            num_attention_heads=shape.heads,
            global_attn_indexes=list(shape.whole),
        )
        with torch.device("meta"):
            self.body: Any = transformers.SamVisionModel(config).vision_encoder

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, 1024, 1024) to embeddings (B, 256, 64, 64)."""
        embeddings: Tensor = self.body(images).last_hidden_state
        return embeddings

    @staticmethod
    def official(name: str) -> str:
        """The official name, without ``image_encoder.``, of one of this module's tensors."""
        name = name.removeprefix("body.")
        for own, official in _PARTS.items():
            name = name.replace(own, official)
        return name
