"""Frequency reconstruction (IFKD's FDR): the low band of a map kept only where the teacher sees something, then a
learnable filter over all frequencies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from fledge.types import at_least_float32

_TYPICAL_RADIUS = 0.25  # where no radius is drawn


def low_band(shape: tuple[int, int], radius: float, device: torch.device | None = None) -> Tensor:
    """Equation 4: the frequencies of a square about the mean.

    Args:
        shape: (H, W) of the map.
        radius: 0: the mean alone; 1: all frequencies of a square map.
        device: of the result.

    Returns:
        (H, W // 2 + 1) bool, in the order of ``rfft2``: where max(|u|, |v|) <= radius · min(H, W) / 2.
    """
    u, v = _frequencies(shape, device)
    band: Tensor = torch.maximum(u.abs()[:, None] * shape[0], v[None] * shape[1]).round() <= radius * min(shape) / 2
    return band


def reconstructed(features: Tensor, mask: Tensor, radius: float, filter_: Tensor | None = None) -> Tensor:
    """Algorithm 1: the low band of each channel times a mask, and the sum of both bands times a filter.

    As the transform is linear, the masked low band is put back by taking the rest of it away.

    Args:
        features: (B, C, H, W).
        mask: (B, 1, H, W) in [0, 1].
        radius: of the low band.
        filter_: (C, H, W // 2 + 1) real, in the order of ``rfft2``; None: 1 everywhere.

    Returns:
        (B, C, H, W), at least float32.
    """
    features = at_least_float32(features)
    height, width = features.shape[2:]
    spectrum = torch.fft.rfft2(features)
    low: Tensor = torch.fft.irfft2(spectrum * low_band((height, width), radius, features.device), s=(height, width))
    taken = low * (1 - mask)
    if filter_ is None:
        return features - taken
    whole: Tensor = torch.fft.irfft2((spectrum - torch.fft.rfft2(taken)) * filter_, s=(height, width))
    return whole


class FrequencyFilter(nn.Module):
    """A real filter of each channel over the frequencies, of one size whatever the size of the maps.

    Stored as its difference from 1, so that it begins as 1 and weight decay pulls towards 1, at ``size`` + 1 times
    ``size`` / 2 + 1 frequencies evenly spaced over -1/2 … 1/2 (vertical) and 0 … 1/2 cycles a cell; between them it is
    bilinear. The other half plane is its mirror image, so that maps stay real.

    Args:
        channels: of the maps.
        size: even.
        lr_factor: on the learning rate, for the optimiser.
    """

    def __init__(self, channels: int, size: int = 16, lr_factor: float = 1.0) -> None:
        super().__init__()
        self.lr_factor = lr_factor
        self.deviation = nn.Parameter(torch.zeros(channels, size + 1, size // 2 + 1))

    def forward(self, shape: tuple[int, int]) -> Tensor:
        """(C, H, W // 2 + 1) in the order of ``rfft2`` for maps (H, W)."""
        mirrored = self.deviation.flip(1)
        ends = [(self.deviation[:, :, i] + mirrored[:, :, i]) / 2 for i in (0, -1)]  # each a mirror image of itself
        stored = torch.cat([ends[0][..., None], self.deviation[:, :, 1:-1], ends[1][..., None]], dim=2)
        u, v = _frequencies(shape, stored.device)
        rows, columns = (
            _hats((u + 0.5) * (stored.shape[1] - 1), stored.shape[1]),
            _hats(v * 2 * (stored.shape[2] - 1), stored.shape[2]),
        )
        return 1 + rows.to(stored) @ stored @ columns.to(stored).T

    def penalty(self) -> Tensor:
        """The squared distance of the stored filter from 1."""
        return self.deviation.square().sum()


class FrequencyReconstruction(nn.Module):
    """The reconstruction of all levels, with one radius a step.

    In training the radius is drawn anew at each call, from the seed and the number of the call, which is part of the
    checkpoint; in eval it is 0.25.

    Args:
        levels: names of the maps.
        channels: of every level.
        radius: bounds between which it is drawn.
        filter_size: of the learnable filters; 0: none, that is 1 everywhere.
        filter_lr: factor on the learning rate of the filters.
        student: reconstruct the student's maps as well, with filters that do not learn from them.
        seed: of the radii.
    """

    count: Tensor

    def __init__(
        self,
        levels: Sequence[str],
        channels: int,
        radius: tuple[float, float] = (0.1, 0.5),
        filter_size: int = 16,
        filter_lr: float = 0.1,
        student: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.radius, self.student, self.seed = radius, student, seed
        self.filters = nn.ModuleDict(
            {name: FrequencyFilter(channels, filter_size, filter_lr) for name in levels} if filter_size else {}
        )
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(
        self, pairs: Mapping[str, tuple[Tensor, Tensor]], masks: Mapping[str, Tensor]
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Maps of student and teacher and the teacher's masks, by level, to the same pairs, the teacher's (and the
        student's) reconstructed.
        """
        radius = self._draw()
        return {name: self._pair(name, *maps, masks[name], radius) for name, maps in pairs.items()}

    def penalty(self) -> Tensor | None:
        """The squared distance of all filters from 1, or None if there are none."""
        each = [filter_.penalty() for filter_ in self.filters.values()]  # type: ignore[operator]
        return torch.stack(each).sum() if each else None

    def _pair(self, name: str, student: Tensor, teacher: Tensor, mask: Tensor, radius: float) -> tuple[Tensor, Tensor]:
        height, width = teacher.shape[2:]
        filter_ = self.filters[name]((height, width)) if name in self.filters else None
        if self.student:
            student = reconstructed(student, mask, radius, None if filter_ is None else filter_.detach())
        return student, reconstructed(teacher, mask, radius, filter_)

    def _draw(self) -> float:
        low, high = self.radius
        if not self.training:
            return min(max(_TYPICAL_RADIUS, low), high)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + int(self.count))
        self.count += 1
        return low + (high - low) * float(torch.rand((), generator=generator))


def _frequencies(shape: tuple[int, int], device: torch.device | None) -> tuple[Tensor, Tensor]:
    """Vertical (H,) and horizontal (W // 2 + 1,) frequencies of ``rfft2``, in cycles a cell, float64."""
    u = torch.fft.fftfreq(shape[0], dtype=torch.float64, device=device)
    return u, torch.fft.rfftfreq(shape[1], dtype=torch.float64, device=device)


def _hats(positions: Tensor, nodes: int) -> Tensor:
    """(P, nodes) weights of linear interpolation at positions (P,) between nodes 0, 1, …"""
    return (1 - (positions[:, None] - torch.arange(nodes, device=positions.device)).abs()).clamp(min=0)
