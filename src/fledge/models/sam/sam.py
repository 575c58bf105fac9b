"""SAM as one frozen module: an image to its embedding, and prompts to masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from fledge.errors import UsageError
from fledge.models.sam.frame import prompts_to_frame, to_frame, valid_cells
from fledge.models.sam.mask_decoder import MaskDecoder
from fledge.models.sam.prompt_encoder import BACKGROUND, NO_POINT, OBJECT, PromptEncoder


@dataclass(frozen=True)
class Embedded:
    """One image as SAM remembers it.

    Attributes:
        map: (256, 64, 64) float32, the whole frame.
        size: (height, width) of the image in pixels.
    """

    map: Tensor
    size: tuple[int, int]

    def valid(self) -> Tensor:
        """The part that the image reaches into (256, rows, columns), without the frame's padding."""
        rows, columns = valid_cells(*self.size)
        return self.map[:, :rows, :columns]


@dataclass(frozen=True)
class Prompts:
    """P questions about one image; what is None is not given.

    Attributes:
        points: (P, N, 2) as (x, y), numbers of pixels of the image: the centre of the first pixel is (0, 0), as for the
            official predictor.
        labels: (P, N): 1 on the object, 0 beside it, -1 no point (to fill up where prompts have fewer).
        boxes: (P, 4) as (x1, y1, x2, y2), likewise in pixels.
        masks: (P, 1, 256, 256) logits over the frame, from an earlier answer.
    """

    points: Tensor | None = None
    labels: Tensor | None = None
    boxes: Tensor | None = None
    masks: Tensor | None = None

    def __post_init__(self) -> None:
        """Raises UsageError where the shapes or labels cannot be right."""
        if (self.points is None) != (self.labels is None):
            raise UsageError("half a prompt: points and labels: give both or neither")
        parts = [x for x in (self.points, self.labels, self.boxes, self.masks) if x is not None]
        if not parts or len({len(x) for x in parts}) != 1:
            raise UsageError(f"no prompts: {[len(x) for x in parts]} of each kind: give the same number of each")
        wanted = ((self.points, 3, (2,)), (self.labels, 2, ()), (self.boxes, 2, (4,)), (self.masks, 4, (1, 256, 256)))
        for given, dimensions, end in wanted:
            if given is not None and (given.ndim != dimensions or given.shape[given.ndim - len(end) :] != end):
                raise UsageError(f"prompts of a wrong shape: {list(given.shape)}: see Prompts for the right ones")
        if self.points is not None and self.labels is not None:
            if self.points.shape[:2] != self.labels.shape:
                raise UsageError(f"prompts: {self.points.shape[1]} points, {self.labels.shape[1]} labels: one for each")
            known = torch.tensor([BACKGROUND, OBJECT, NO_POINT], device=self.labels.device)
            if not torch.isin(self.labels, known).all():
                raise UsageError("prompts: a label of a point is neither 1, 0 nor -1: use these")


class Sam(nn.Module):
    """Any of the SAM family: frozen, always in eval mode, without gradients, in float32.

    Images and prompts are expected on the device of its weights.

    Args:
        image_encoder: normalised frames (B, 3, 1024, 1024) to (B, 256, 64, 64).
    """

    def __init__(self, image_encoder: nn.Module) -> None:
        super().__init__()
        self.image_encoder, self.prompt_encoder, self.mask_decoder = image_encoder, PromptEncoder(), MaskDecoder()
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002
        """Stay in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def embed(self, images: Sequence[Tensor]) -> list[Embedded]:
        """Images (3, h, w) uint8 RGB, of any sizes, to their embeddings, computed together."""
        if not images:
            return []
        frames = torch.stack([to_frame(image) for image in images])
        with torch.autocast(frames.device.type, enabled=False):
            maps = self.image_encoder(frames)
        return [Embedded(m, (i.shape[1], i.shape[2])) for m, i in zip(maps, images, strict=True)]

    @torch.no_grad()
    def masks(self, embedded: Embedded, prompts: Prompts, multimask: bool = True) -> tuple[Tensor, Tensor]:
        """What the prompts mean on one image.

        Args:
            embedded: the image.
            prompts: P questions; 64 at a time are usual for a grid of points.
            multimask: three masks for each, of which the one of the highest IoU is usually taken; good for a single
                point, which may mean a whole or a part. Otherwise one mask for each.

        Returns:
            Logits (P, 3 or 1, 256, 256) over the frame (``frame.masks_to_image`` brings them to the image), and the
            IoU each is thought to have with its object (P, 3 or 1).
        """
        points = None if prompts.points is None else prompts_to_frame(prompts.points, *embedded.size)
        corners = None if prompts.boxes is None else prompts.boxes.reshape(-1, 2, 2)
        boxes = None if corners is None else prompts_to_frame(corners, *embedded.size).flatten(1)
        with torch.autocast(embedded.map.device.type, enabled=False):
            sparse, dense = self.prompt_encoder(points, prompts.labels, boxes, prompts.masks)
            masks: tuple[Tensor, Tensor] = self.mask_decoder(
                embedded.map[None], self.prompt_encoder.places(), sparse, dense, multimask
            )
        return masks
