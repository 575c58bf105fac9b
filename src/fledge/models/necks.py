"""Feature pyramids."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class FPN(nn.Module):
    """Feature pyramid P3–P7 as RetinaNet uses it: P6 from C5 and P7 from P6, by 3×3 convolutions of stride 2.

    Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017, arXiv 1612.03144.

    Args:
        in_channels: channels of C3, C4 and C5.
        channels: channels of every level.

    Attributes:
        channels: of every level.
        levels: their names; level ``pN`` has the stride 2 to the power N.
    """

    def __init__(self, in_channels: Sequence[int], channels: int = 256) -> None:
        super().__init__()
        self.channels, self.levels = channels, ("p3", "p4", "p5", "p6", "p7")
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels)
        self.output = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels)
        # Padded by hand: given padding, a CPU's bfloat16 kernels return rubbish gradients for maps one pixel wide.
        self.p6 = nn.Conv2d(in_channels[-1], channels, 3, stride=2)
        self.p7 = nn.Conv2d(channels, channels, 3, stride=2)
        _init(self)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """``{"c3", "c4", "c5"}`` to ``{"p3", …, "p7"}``, each (B, channels, H/s, W/s) with s = 8 … 128."""
        p3, p4, p5 = _top_down(self.lateral, self.output, [features[name] for name in ("c3", "c4", "c5")])
        p6 = self.p6(F.pad(features["c5"], (1, 1, 1, 1)))
        return {"p3": p3, "p4": p4, "p5": p5, "p6": p6, "p7": self.p7(F.pad(p6, (1, 1, 1, 1)))}


class PooledFPN(nn.Module):
    """Feature pyramid P2–P6 as Faster R-CNN uses it: P6 is every second cell of P5.

    Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017, arXiv 1612.03144.

    Args:
        in_channels: channels of C2 to C5.
        channels: channels of every level.

    Attributes:
        channels: of every level.
        levels: their names; level ``pN`` has the stride 2 to the power N.
    """

    def __init__(self, in_channels: Sequence[int], channels: int = 256) -> None:
        super().__init__()
        self.channels, self.levels = channels, ("p2", "p3", "p4", "p5", "p6")
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels)
        self.output = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels)
        _init(self)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """``{"c2", …, "c5"}`` to ``{"p2", …, "p6"}``, each (B, channels, H/s, W/s) with s = 4 … 64."""
        maps = _top_down(self.lateral, self.output, [features[name] for name in ("c2", "c3", "c4", "c5")])
        return dict(zip(self.levels, [*maps, F.max_pool2d(maps[-1], 1, stride=2)], strict=True))


def _init(neck: nn.Module) -> None:
    for module in neck.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]


def _top_down(lateral: nn.ModuleList, output: nn.ModuleList, maps: Sequence[Tensor]) -> list[Tensor]:
    """Each map with all coarser ones added to it, finest first."""
    inner = [conv(x) for conv, x in zip(lateral, maps, strict=True)]
    for i in range(len(inner) - 2, -1, -1):
        inner[i] = inner[i] + F.interpolate(inner[i + 1], size=inner[i].shape[-2:], mode="nearest")
    return [conv(x) for conv, x in zip(output, inner, strict=True)]
