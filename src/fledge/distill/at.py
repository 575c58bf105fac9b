"""Paying More Attention to Attention: Improving CNNs via Attention Transfer (AT), arXiv 2016.

Zagoruyko and Komodakis. https://arxiv.org/abs/1612.03928

The student's neck imitates where the teacher's is active: the squares of a map, averaged over its channels and brought
to length 1 over all places of an image.

Differs from the paper:
- Squared differences are summed over the places and averaged over the images; the authors' code averages over the
  places as well, so that its weight of 1000 depends on the size of the map. A map of length 1 has no need of it.
- The maps are the pyramid levels that both detectors have, summed; the paper takes the ends of a classifier's stages.
- No adapter: widths may differ, and the attention of a level of another size is resized to the teacher's.

Published results: the paper has none for detection. IFKD builds its parts on AT (ShipRSImageNet, RetinaNet, R50 to
MobileNetV2): AP50 59.8 with all three, 6.8 above AT alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fledge.distill.parts.levels import pair
from fledge.types import Batch, Outputs, at_least_float32


def activity(x: Tensor) -> Tensor:
    """Mean square over the channels of a map (B, C, H, W): (B, 1, H, W), at least float32."""
    return at_least_float32(x).square().mean(dim=1, keepdim=True)


def attention_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the squared distance of two activities (B, 1, H, W), each of length 1 in each image; mean over the images.

    The scale of a map does not matter. One without activity counts as zero.
    """
    own, other = F.normalize(student.flatten(1)), F.normalize(teacher.flatten(1))
    return (own - other).square().sum(dim=1).mean() / 2


class AT(nn.Module):
    """The attention term, summed over the levels.

    Args:
        levels: names of the maps.
        weight: of the term.
    """

    def __init__(self, levels: Sequence[str], weight: float = 10.0) -> None:
        super().__init__()
        self.weights = {"kd_at": weight}
        self.levels = tuple(levels)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:  # noqa: ARG002
        """The weighted term ``kd_at``."""
        pairs = [pair(activity(student.features[n]), activity(teacher.features[n])) for n in self.levels]
        return {"kd_at": self.weights["kd_at"] * torch.stack([attention_loss(*maps) for maps in pairs]).sum()}
