from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fledge.errors import UsageError
from fledge.models.embedders.edges import Edges
from fledge.models.embedders.embedder import Embedder, Network, on_frame


class Means(Network):
    """Means over cells of 4 pixels, through a weight and a dropout, which eval mode must silence."""

    channels = 3
    identity = "means"

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Dropout(0.5))

    def maps(self, images: Sequence[Tensor]) -> list[Tensor]:
        return [self.body(nn.functional.avg_pool2d(i[None].float(), 4, ceil_mode=True))[0] for i in images]

    def cell(self, height: int, width: int) -> tuple[float, float]:
        return 4.0, 4.0

    def describe(self) -> str:
        return "means: random"


def image(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def padded(images: Sequence[Tensor], height: int, width: int, fill: int = 0) -> tuple[Tensor, Tensor]:
    batch = torch.full((len(images), 3, height, width), fill, dtype=torch.uint8)
    for slot, one in zip(batch, images, strict=True):
        slot[:, : one.shape[1], : one.shape[2]] = one
    return batch, torch.tensor([i.shape[1:] for i in images])


def test_an_image_that_fills_the_frame_has_its_own_map() -> None:
    images = [image(32, 48, 1), image(32, 48, 2)]
    maps = Embedder(Edges())(*padded(images, 32, 48))
    assert (maps.shape, maps.dtype) == ((2, 3, 4, 6), torch.float32)
    torch.testing.assert_close(maps, torch.stack(Edges().maps(images)), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("network", [Edges(), Means()], ids=["edges", "means"])
def test_an_image_sees_neither_the_others_nor_padding(network: Network) -> None:
    images = [image(32, 48, 1), image(24, 17, 2), image(9, 64, 3)]
    embedder = Embedder(network).train()
    together = embedder(*padded(images, 64, 64))
    torch.testing.assert_close(embedder(*padded(images, 64, 64, fill=255)), together, atol=0, rtol=0)
    for i, one in enumerate(images):
        torch.testing.assert_close(embedder(*padded([one], 64, 64))[0], together[i], atol=1e-6, rtol=1e-6)


def slow_on_frame(
    values: Tensor, cell: tuple[float, float], size: tuple[int, int], frame: tuple[int, int], grid: tuple[int, int]
) -> Tensor:
    """Cell by cell, from the four nearest centres."""
    out = torch.zeros(len(values), *grid, dtype=torch.float64)
    rows, columns = values.shape[1:]
    for i in range(grid[0]):
        for j in range(grid[1]):
            y, x = (i + 0.5) * frame[0] / grid[0], (j + 0.5) * frame[1] / grid[1]
            if y >= size[0] or x >= size[1]:
                continue
            r, c = y / cell[0] - 0.5, x / cell[1] - 0.5
            for a in (math.floor(r), math.floor(r) + 1):
                for b in (math.floor(c), math.floor(c) + 1):
                    weight = (1 - abs(r - a)) * (1 - abs(c - b))
                    out[:, i, j] += weight * values[:, min(max(a, 0), rows - 1), min(max(b, 0), columns - 1)]
    return out


@settings(max_examples=60)
@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.tuples(st.integers(0, 30), st.integers(0, 30)),
    st.sampled_from([4.0, 8.0, 5.3]),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_maps_lie_where_their_images_do(
    size: tuple[int, int], more: tuple[int, int], step: float, grid: tuple[int, int]
) -> None:
    cell = (step, step * 1.01)
    shape = [math.ceil(n / c) for n, c in zip(size, cell, strict=True)]
    values = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    frame = size[0] + more[0], size[1] + more[1]
    own = on_frame(values.float(), cell, size, frame, grid)
    expected = slow_on_frame(values, cell, size, frame, grid)
    edge = (own != 0).any(dim=0) != (expected != 0).any(dim=0)  # a centre on the image's very border
    torch.testing.assert_close(own.double()[:, ~edge], expected[:, ~edge], atol=1e-4, rtol=1e-4)
    assert edge.sum() <= sum(grid)


def test_the_network_is_hidden_frozen_and_moves_along() -> None:
    torch.manual_seed(0)
    embedder = Embedder(Means())
    holder = nn.ModuleDict({"embedder": embedder})
    assert not list(holder.parameters())
    assert not holder.state_dict()
    holder.train()
    assert not any(m.training for m in embedder.network.modules())
    assert not any(p.requires_grad for p in embedder.network.parameters())
    maps = embedder(*padded([image(8, 8)], 8, 8))
    assert not maps.requires_grad
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(embedder(*padded([image(8, 8)], 8, 8)), maps)
    holder.to("meta")
    assert all(p.is_meta for p in embedder.network.parameters())


def test_other_channels_and_no_images() -> None:
    embedder = Embedder(Edges())
    with pytest.raises(UsageError, match="4 channels: an embedder reads red, green and blue"):
        embedder(torch.zeros(1, 4, 8, 8, dtype=torch.uint8), torch.tensor([[8, 8]]))
    none = embedder(torch.zeros(0, 3, 16, 24, dtype=torch.uint8), torch.zeros(0, 2, dtype=torch.int64))
    assert (none.shape, none.dtype) == ((0, 3, 2, 3), torch.float32)
