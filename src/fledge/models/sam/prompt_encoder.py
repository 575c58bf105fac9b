"""SAM's prompt encoder: points, boxes and masks as vectors, by random Fourier features of their places.

Kirillov et al., "Segment Anything", ICCV 2023, arXiv 2304.02643; Tancik et al., "Fourier Features Let Networks Learn
High Frequency Functions in Low Dimensional Domains", NeurIPS 2020, arXiv 2006.10739. Parameters have the names of the
official checkpoints.
"""

from __future__ import annotations

import math

import torch
from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn

from fledge.models.sam.mask_decoder import WIDTH

SIDE = 1024  # pixels of the square frame that prompts and image live in
CELLS = 64  # of the image embedding, along each side
BACKGROUND, OBJECT, NO_POINT = 0, 1, -1  # labels of points
_CORNERS = (2, 3)  # rows of the point embeddings: upper left, lower right


class FourierCode(nn.Module):
    """Sines and cosines of random projections of a place; the projections come with the checkpoint."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, WIDTH // 2))

    def forward(self, places: Tensor) -> Tensor:
        """Places (…, 2) as (x, y) in 0…1 of the frame to codes (…, 256)."""
        angles = 2 * math.pi * ((2 * places - 1) @ self.positional_encoding_gaussian_matrix)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class PromptEncoder(nn.Module):
    """Points, boxes and masks to what the mask decoder reads."""

    def __init__(self) -> None:
        super().__init__()
        self.pe_layer = FourierCode()
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, WIDTH) for _ in range(4))  # of labels 0, 1, and corners
        self.not_a_point_embed = nn.Embedding(1, WIDTH)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, 4, 2, 2),
            LayerNorm2d(4, eps=1e-6),
            nn.GELU(),
            nn.Conv2d(4, 16, 2, 2),
            LayerNorm2d(16, eps=1e-6),
            nn.GELU(),
            nn.Conv2d(16, WIDTH, 1),
        )
        self.no_mask_embed = nn.Embedding(1, WIDTH)

    def forward(
        self,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """P prompts.

        Args:
            points: (P, N, 2) as (x, y) in pixels of the frame of 1024.
            labels: (P, N) of the points: 1 on the object, 0 beside it, -1 no point at all.
            boxes: (P, 4) as (x1, y1, x2, y2), same frame.
            masks: (P, 1, 256, 256) logits over the frame, such as the decoder gives.

        Returns:
            Tokens (P, N', 256): points (with one that is none, where there is no box), then the corners of the box;
            and (P or 1, 256, 64, 64) to be added to the image embedding.
        """
        tokens = []
        if points is not None and labels is not None:
            tokens.append(self._points(points, labels, padded=boxes is None))
        if boxes is not None:
            corners = self._code(boxes.reshape(-1, 2, 2))
            tokens.append(corners + torch.cat([self._of(i) for i in _CORNERS]))
        if masks is not None:
            return self._joined(tokens, masks.shape[0]), self.mask_downscaling(masks)
        dense = self.no_mask_embed.weight[:, :, None, None].expand(-1, -1, CELLS, CELLS)
        return self._joined(tokens, 1), dense

    def places(self) -> Tensor:
        """The code of the centres of the embedding's cells (1, 256, 64, 64)."""
        matrix = self.pe_layer.positional_encoding_gaussian_matrix
        centres = (torch.arange(CELLS, device=matrix.device, dtype=matrix.dtype) + 0.5) / CELLS
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        code: Tensor = self.pe_layer(torch.stack([x, y], dim=-1))
        return code.permute(2, 0, 1)[None]

    def _code(self, places: Tensor) -> Tensor:
        """Numbers of pixels (…, 2) to the codes of the pixels' centres (…, 256)."""
        code: Tensor = self.pe_layer((places + 0.5) / SIDE)
        return code

    def _points(self, points: Tensor, labels: Tensor, padded: bool) -> Tensor:
        code = self._code(points)
        which = labels[..., None]
        code = torch.where(which == NO_POINT, self.not_a_point_embed.weight[0], code)
        code = code + sum((which == label) * self._of(label) for label in (BACKGROUND, OBJECT))
        if not padded:
            return code
        return torch.cat([code, self.not_a_point_embed.weight.expand(len(code), 1, -1)], dim=1)

    def _of(self, kind: int) -> Tensor:
        """The learned vector (1, 256) of a label or corner."""
        weight: Tensor = self.point_embeddings[kind].weight  # type: ignore[assignment]
        return weight

    def _joined(self, tokens: list[Tensor], count: int) -> Tensor:
        if tokens:
            return torch.cat(tokens, dim=1)
        return self.no_mask_embed.weight.new_zeros(count, 0, WIDTH)
