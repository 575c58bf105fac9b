"""MobileSAM's image encoder: TinyViT-5M by timm with a last stage of stride 16, and SAM's neck.

Zhang et al., "Faster Segment Anything: Towards Lightweight SAM for Mobile Applications", 2023, arXiv 2306.14289;
Wu et al., "TinyViT: Fast Pretraining Distillation for Small Vision Transformers", ECCV 2022, arXiv 2207.10666.
"""

from __future__ import annotations

import re
from typing import Any

import timm
from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn

from fledge.models.sam.mask_decoder import WIDTH

# Of the ImageNet classifier, which the official file still holds and nothing uses.
UNUSED = frozenset(("norm_head.weight", "norm_head.bias", "head.weight", "head.bias"))
_STEM = {"1": "0", "2": "2"}  # timm's number of a convolution of the stem, and the official one


class TinyViT(nn.Module):
    """The encoder of MobileSAM; any sides that are multiples of 32, 1024 in the official one."""

    def __init__(self) -> None:
        super().__init__()
        body: Any = timm.create_model("tiny_vit_5m_224", pretrained=False, num_classes=0)
        body.head = nn.Identity()
        body.stages[3].downsample.conv2.conv.stride = (1, 1)  # timm's own halves here once more
        self.body = body
        self.neck = nn.Sequential(
            nn.Conv2d(body.num_features, WIDTH, 1, bias=False),
            LayerNorm2d(WIDTH, eps=1e-6),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
            LayerNorm2d(WIDTH, eps=1e-6),
        )
        self.register_load_state_dict_post_hook(_forget_biases)  # type: ignore[no-untyped-call]

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to embeddings (B, 256, H/16, W/16)."""
        embeddings: Tensor = self.neck(self.body.forward_features(images))
        return embeddings

    @staticmethod
    def official(name: str) -> str:
        """The official name, without ``image_encoder.``, of one of this module's tensors."""
        name = name.removeprefix("body.").replace(".conv.", ".c.")
        if stem := re.match(r"patch_embed\.conv(\d)\.", name):
            return f"patch_embed.seq.{_STEM[stem[1]]}.{name[stem.end() :]}"
        if stage := re.match(r"stages\.(\d)\.", name):
            rest = name[stage.end() :]  # timm shrinks at the start of a stage, the official one at the end
            return f"layers.{int(stage[1]) - rest.startswith('downsample')}.{rest}"
        return name


def _forget_biases(module: nn.Module, _: object) -> None:
    """Drop the biases that timm has gathered for a window in eval mode, and would still use after others are loaded."""
    module.train(module.training)
