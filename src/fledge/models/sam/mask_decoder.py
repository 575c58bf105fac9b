"""SAM's mask decoder: two-way attention between prompts and image, masks, and what they think of their own IoU.

Kirillov et al., "Segment Anything", ICCV 2023, arXiv 2304.02643, section 3 and appendix A. Parameters have the names
of the official checkpoints.
"""

from __future__ import annotations

import torch
from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH = 256  # channels of image embedding, tokens and prompts
_HEADS = 8
_MLP = 2048
_LAYERS = 2
_MASKS = 4  # the first for one clear answer, the others for whole, part and part of a part


class Attention(nn.Module):
    """Multi-head attention that may compute in fewer channels than it is given.

    Args:
        inner: channels inside, over all heads.
    """

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(WIDTH, inner) for _ in range(3))
        self.out_proj = nn.Linear(inner, WIDTH)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Queries (P, N, 256), keys and values (P, M, 256) to (P, N, 256)."""
        split = [
            layer(x).unflatten(-1, (_HEADS, -1)).transpose(1, 2)
            for layer, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v))
        ]
        mixed: Tensor = self.out_proj(F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2))
        return mixed


class TokenMLP(nn.Module):
    """Two linear layers with a ReLU between, applied to each token."""

    def __init__(self) -> None:
        super().__init__()
        self.lin1, self.lin2 = nn.Linear(WIDTH, _MLP), nn.Linear(_MLP, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """(P, N, 256) to the same."""
        out: Tensor = self.lin2(F.relu(self.lin1(x)))
        return out


class TwoWayBlock(nn.Module):
    """Tokens look at themselves and at the image, then the image looks at the tokens; norms come after each sum.

    Args:
        first: the block whose tokens are still the bare prompts: its self-attention has neither position nor residual.
    """

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention(WIDTH)
        self.norm1, self.norm2, self.norm3, self.norm4 = (nn.LayerNorm(WIDTH) for _ in range(4))
        self.cross_attn_token_to_image = Attention(WIDTH // 2)
        self.mlp = TokenMLP()
        self.cross_attn_image_to_token = Attention(WIDTH // 2)

    def forward(self, tokens: Tensor, image: Tensor, prompts: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (P, N, 256) and image (P, HW, 256) to the same; ``prompts`` and ``places`` are added as positions."""
        if self.first:
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            placed = tokens + prompts
            tokens = tokens + self.self_attn(placed, placed, tokens)
        tokens = self.norm1(tokens)
        keys = image + places
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + prompts, keys, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = self.norm4(image + self.cross_attn_image_to_token(keys, tokens + prompts, tokens))
        return tokens, image


class TwoWayTransformer(nn.Module):
    """Two such blocks, and a last look of the tokens at the image."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(first=i == 0) for i in range(_LAYERS))
        self.final_attn_token_to_image = Attention(WIDTH // 2)
        self.norm_final_attn = nn.LayerNorm(WIDTH)

    def forward(self, image: Tensor, places: Tensor, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """Image (P, HW, 256), its positions (1, HW, 256) and prompts (P, N, 256) to tokens and image, same shapes."""
        tokens = prompts
        for layer in self.layers:
            tokens, image = layer(tokens, image, prompts, places)
        last = self.final_attn_token_to_image(tokens + prompts, image + places, image)
        return self.norm_final_attn(tokens + last), image


class HeadMLP(nn.Module):
    """Three linear layers with ReLUs between.

    Args:
        out: channels of the last.
    """

    def __init__(self, out: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, out)])

    def forward(self, x: Tensor) -> Tensor:
        """(P, 256) to (P, out)."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        out: Tensor = self.layers[-1](x)
        return out


class MaskDecoder(nn.Module):
    """Prompts and an image embedding to mask logits."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer()
        self.iou_token, self.mask_tokens = nn.Embedding(1, WIDTH), nn.Embedding(_MASKS, WIDTH)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(WIDTH, WIDTH // 4, 2, 2),
            LayerNorm2d(WIDTH // 4, eps=1e-6),
            nn.GELU(),
            nn.ConvTranspose2d(WIDTH // 4, WIDTH // 8, 2, 2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(HeadMLP(WIDTH // 8) for _ in range(_MASKS))
        self.iou_prediction_head = HeadMLP(_MASKS)

    def forward(
        self, image: Tensor, places: Tensor, sparse: Tensor, dense: Tensor, multimask: bool
    ) -> tuple[Tensor, Tensor]:
        """Masks of P prompts.

        Args:
            image: embedding (P or 1, 256, h, w).
            places: its position code (1, 256, h, w).
            sparse: points and boxes (P, N, 256).
            dense: mask prompts (P or 1, 256, h, w).
            multimask: three masks a prompt, for prompts with several answers, instead of one.

        Returns:
            Logits (P, 3 or 1, 4h, 4w), and the IoU each is thought to have with its object (P, 3 or 1).
        """
        count = sparse.shape[0]
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        prompts = torch.cat([own.expand(count, -1, -1), sparse], dim=1)
        cells = (image + dense).expand(count, -1, -1, -1)
        tokens, seen = self.transformer(_flat(cells), _flat(places), prompts)
        fine = self.output_upscaling(seen.transpose(1, 2).unflatten(2, image.shape[2:]))
        mixes = [mlp(tokens[:, 1 + i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)]
        masks = torch.einsum("pmc,pchw->pmhw", torch.stack(mixes, dim=1), fine)
        iou = self.iou_prediction_head(tokens[:, 0])
        chosen = slice(1, None) if multimask else slice(0, 1)
        return masks[:, chosen], iou[:, chosen]


def _flat(maps: Tensor) -> Tensor:
    """Maps (P, C, h, w) as cells (P, hw, C)."""
    return maps.flatten(2).transpose(1, 2)
