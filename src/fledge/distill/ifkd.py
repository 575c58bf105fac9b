"""IFKD: Information Fusion with Knowledge Distillation for Fine-grained Remote Sensing Object Detection, ACM MM 2024.

https://doi.org/10.1145/3664647.3681684

FRS with three parts more. A frozen network's view of the image is added to the teacher's maps (external disturbance,
EDE); their low frequencies stay only where the teacher sees an object, and a learnable filter weighs all of them
(frequency reconstruction, FDR); and the student learns most at the places where its maps and these are far apart in
hyperbolic space (hyperbolic similarity mask, HSM).

Differs from the paper:
- Equation 12 is missing in print; it is built like equation 13, whose symbols it shares, and like FRS, its parent: the
  squared difference, summed over channels, weighted by the mask and divided by the mask's sum.
- The disturbance is MobileSAM's image embedding ("spliced" in the text, added in equation 1), the only output with as
  many channels as the maps. A neck of another width gets it through a fixed orthogonal 1×1 convolution. Any other
  frozen network, or a map of edges, takes its place by name.
- Frequencies are reconstructed in the teacher's maps (algorithm 1); figure 2 says the student's too
  (`ifkd_frequency_on = "both"`, with one radius). The radius is drawn from 0.1 … 0.5; the paper gives no range.
- The filter stands on the target's side, where the least loss is to erase the target. It is real, begins as 1, learns
  at a tenth of the rate, from the target alone, and pays for its squared distance from 1; `ifkd_train_filter = false`
  holds it at 1. Adapters and filters alone, on random maps (16 channels, 4 images of 32×32 and 16×16 cells, 200 steps
  of Adam at 0.01 and 0.05), bring the feature term to 67 % of its start, adapters without filters to 68 %; with no
  price on the filter it falls below 0.1 %.
- Equation 11 sums the mask over all places while equation 13 takes it place by place, as here. Vectors are divided by
  the root of the number of channels before they enter the ball (curvature 1), where otherwise all would lie at the
  rim and the mask be constant.
- Equations 9 and 10 mix symbols: the curvature is c throughout, and (-f_t) ⊕ f_s is meant.
- What is said of teacher and student around equation 13 is exchanged; the student is the prediction. The term is
  reported less its floor, as for FRS, whose 500 steps of rising weights are taken, too.
- With a part off, the target is the teacher's own map (EDE), maps pass unchanged (FDR), the mask is that of FRS or 1
  (HSM). Table 4 adds the parts to attention transfer (`ifkd_on = "at"`): half the squared distance of the activities of
  target and student, each of length 1; a mask with mean 1 weighs the places. There is no class term then, and the mask
  compares the student's own maps, through a fixed orthogonal map if widths differ.
- The code published under the paper's name cannot have produced its tables; none of it is followed.

Published results (AP50:95, R50 teacher, student alone and distilled). SAR-AIRcraft-1.0: Faster R-CNN R18 49.2 and 52.1,
MobileNetV2 55.4 and 55.7; RetinaNet R18 50.0 and 53.9, MobileNetV2 53.3 and 54.9. ShipRSImageNet: Faster R-CNN R18 48.0
and 49.8, MobileNetV2 48.8 and 49.4; RetinaNet R18 34.0 and 35.8, MobileNetV2 40.6 and 44.4 (in table 3: 46.1). Parts on
attention transfer, ShipRSImageNet, AP50, from the text as table 4 is empty: EDE +4.1, HSM +4.0, FDR +3.4, all +6.8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fledge.distill.at import activity
from fledge.distill.frs import feature_loss, richness, score_excess
from fledge.distill.parts.embedding import Disturbance, disturbed
from fledge.distill.parts.frequency import FrequencyReconstruction
from fledge.distill.parts.hyperbolic import hyperbolic_mask
from fledge.distill.parts.levels import Adapters, Ramp, check_same_grid, logits_by_level, pair
from fledge.distributed import mean_over_processes
from fledge.types import Batch, Outputs, at_least_float32

Mask = Literal["hyperbolic", "frs", "ones"]
Pairs = dict[str, tuple[Tensor, Tensor]]


class Parts(nn.Module):
    """The three parts, each of which may be off.

    Args:
        disturbance: EDE, or None.
        reconstruction: FDR, or None.
        mask: ``hyperbolic`` is HSM; ``frs`` the best scores of the teacher, ``ones`` all places alike.
        curvature: of the hyperbolic space.
    """

    def __init__(
        self,
        disturbance: Disturbance | None = None,
        reconstruction: FrequencyReconstruction | None = None,
        mask: Mask = "hyperbolic",
        curvature: float = 1.0,
    ) -> None:
        super().__init__()
        self.disturbance, self.reconstruction = disturbance, reconstruction
        self.mask, self.curvature = mask, curvature

    def lesson(self, pairs: Pairs, scores: dict[str, Tensor], batch: Batch) -> Pairs:
        """Pairs of the student's and the teacher's map by level, with what the teacher's becomes by EDE and FDR.

        Args:
            pairs: maps (B, C, H, W) of one size at each level.
            scores: (B, 1, H, W) by level: ``richness`` of the teacher's logits.
            batch: whose images are embedded.
        """
        if self.disturbance is not None:
            added = self.disturbance(batch)
            pairs = {name: (own, disturbed(other, added)) for name, (own, other) in pairs.items()}
        return pairs if self.reconstruction is None else self.reconstruction(pairs, scores)

    def weights(self, student: Tensor, target: Tensor, scores: Tensor) -> Tensor:
        """How much each place counts, (B, 1, H, W) without a gradient."""
        if self.mask == "hyperbolic":
            return hyperbolic_mask(student, target, self.curvature)
        return scores if self.mask == "frs" else torch.ones_like(scores)

    def penalty(self) -> Tensor | None:
        """The squared distance of the filters from 1, or None if there are none."""
        return None if self.reconstruction is None else self.reconstruction.penalty()

    def describe(self) -> str:
        """Which parts are on, and what disturbs the teacher, in one line."""
        disturbance = "none" if self.disturbance is None else self.disturbance.describe()
        frequency = "off" if self.reconstruction is None else "on"
        return f"disturbance {disturbance}; frequency reconstruction {frequency}; mask {self.mask}"


class IFKD(nn.Module):
    """The terms of IFKD: features (equation 12), class scores (equation 13), and the price of the filter.

    Args:
        levels: names of the maps.
        student_channels, teacher_channels: of the necks; a 3×3 convolution a level goes between in any case.
        parts: EDE, FDR and HSM.
        feat_weight: alpha.
        head_weight: beta.
        filter_penalty: of the filter's squared distance from 1.
        ramp_steps: over which alpha and beta rise from 0.
    """

    def __init__(
        self,
        levels: Sequence[str],
        student_channels: int,
        teacher_channels: int,
        parts: Parts,
        feat_weight: float = 0.06,
        head_weight: float = 0.5,
        filter_penalty: float = 0.1,
        ramp_steps: int = 500,
    ) -> None:
        super().__init__()
        self.parts = parts
        self.weights = {"kd_feat": feat_weight, "kd_head": head_weight, "kd_filter": filter_penalty}
        self.adapters = Adapters(levels, student_channels, teacher_channels, kernel=3, always=True)
        self.ramp = Ramp(ramp_steps)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms ``kd_feat`` and ``kd_head``, and ``kd_filter`` if there is a filter that learns."""
        check_same_grid("IFKD", student, teacher, codes=False)
        own, other = logits_by_level(student), logits_by_level(teacher)
        scores = {name: richness(other[name]) for name in self.adapters.convs}
        feat, head = [], []
        for name, (imitation, target) in self.parts.lesson(self.adapters(student, teacher), scores, batch).items():
            mask = self.parts.weights(imitation, target, scores[name])
            feat.append(feature_loss(imitation, target, mask))
            head.append(score_excess(own[name], other[name], mask))
        factor = self.ramp()
        terms = {"kd_feat": factor * torch.stack(feat).sum(), "kd_head": factor * torch.stack(head).sum()}
        return weighted(terms, self.weights, self.parts.penalty())

    def describe(self) -> str:
        """What a report says of it."""
        return self.parts.describe()


class AttentionIFKD(nn.Module):
    """Table 4: the parts added to attention transfer.

    Args:
        levels: names of the maps.
        parts: EDE, FDR and HSM.
        weight: of the attention term.
        filter_penalty: of the filter's squared distance from 1.
        projection: (teacher's, student's channels, 1, 1), fixed, for the mask and the student's frequencies where the
            widths differ; None: they agree.
    """

    projection: Tensor | None

    def __init__(
        self,
        levels: Sequence[str],
        parts: Parts,
        weight: float = 10.0,
        filter_penalty: float = 0.1,
        projection: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.parts, self.levels = parts, tuple(levels)
        self.weights = {"kd_at": weight, "kd_filter": filter_penalty}
        self.register_buffer("projection", projection, persistent=False)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """The weighted term ``kd_at``, and ``kd_filter`` if there is a filter that learns."""
        logits = logits_by_level(teacher)
        pairs = {name: pair(self._widened(student.features[name]), teacher.features[name]) for name in self.levels}
        scores = {name: richness(logits[name]) for name in self.levels}
        losses = []
        for name, (own, target) in self.parts.lesson(pairs, scores, batch).items():
            losses.append(masked_attention_loss(own, target, self.parts.weights(own, target, scores[name])))
        return weighted({"kd_at": torch.stack(losses).sum()}, self.weights, self.parts.penalty())

    def describe(self) -> str:
        """What a report says of it."""
        return f"attention transfer; {self.parts.describe()}"

    def _widened(self, features: Tensor) -> Tensor:
        """Through the orthogonal map, which leaves the activity of each place as it is up to a factor."""
        features = at_least_float32(features)
        return features if self.projection is None else F.conv2d(features, self.projection.to(features))


def masked_attention_loss(student: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Half the squared distance of the activities of two maps (B, C, H, W), each of length 1 in each image, its places
    weighted by a mask (B, 1, H, W) brought to mean 1 over the batch; mean over the images.
    """
    own, other = (F.normalize(activity(x).flatten(1)) for x in (student, target))
    mask = mask.flatten(1) / mean_over_processes(mask.mean()).clamp(min=1e-6)
    return ((own - other).square() * mask).sum(dim=1).mean() / 2


def weighted(terms: dict[str, Tensor], weights: dict[str, float], penalty: Tensor | None) -> dict[str, Tensor]:
    """The terms, and the penalty as ``kd_filter``, each times its weight."""
    if penalty is not None:
        terms = {**terms, "kd_filter": penalty}
    return {name: weights[name] * value for name, value in terms.items()}
