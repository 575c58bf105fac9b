from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from fledge.models.embedders.orthogonal import orthogonal_map

WIDTHS = st.integers(1, 80)


@settings(max_examples=40)
@given(WIDTHS, WIDTHS, st.integers(0, 2**40))
def test_rows_or_columns_are_orthonormal(channels_in: int, channels_out: int, seed: int) -> None:
    kernel = orthogonal_map(channels_in, channels_out, seed)
    assert (kernel.shape, kernel.dtype) == ((channels_out, channels_in, 1, 1), torch.float32)
    m = kernel[:, :, 0, 0].double()
    gram = m.T @ m if channels_out >= channels_in else m @ m.T
    torch.testing.assert_close(gram, torch.eye(len(gram), dtype=torch.float64), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("channels_in", "channels_out"), [(3, 256), (256, 256), (256, 300)])
def test_lengths_and_angles_are_kept(channels_in: int, channels_out: int) -> None:
    maps = torch.randn(2, channels_in, 3, 5, generator=torch.Generator().manual_seed(0))
    moved = F.conv2d(maps, orthogonal_map(channels_in, channels_out, seed=1))
    torch.testing.assert_close(moved.norm(dim=1), maps.norm(dim=1))
    torch.testing.assert_close((moved[0] * moved[1]).sum(dim=0), (maps[0] * maps[1]).sum(dim=0), atol=1e-4, rtol=1e-4)


def test_a_projection_never_lengthens() -> None:
    maps = torch.randn(2, 256, 3, 5, generator=torch.Generator().manual_seed(0))
    moved = F.conv2d(maps, orthogonal_map(256, 64, seed=1))
    assert (moved.norm(dim=1) < maps.norm(dim=1)).all()


def test_a_seed_gives_its_map_whatever_else_happens() -> None:
    first = orthogonal_map(256, 128, seed=3)
    before = torch.random.get_rng_state()
    torch.manual_seed(8)
    assert torch.equal(orthogonal_map(256, 128, seed=3), first)
    assert not torch.equal(orthogonal_map(256, 128, seed=4), first)
    torch.random.set_rng_state(before)
    orthogonal_map(4, 4, seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_maps_are_spread_evenly() -> None:
    """QR alone favours one sign of each column; a uniform map has entries of mean 0 and variance 1/n."""
    many = torch.stack([orthogonal_map(4, 4, seed)[:, :, 0, 0] for seed in range(2000)])
    assert (many.mean(dim=0).abs() < 4 * 0.5 / 2000**0.5).all()
    torch.testing.assert_close(many.square().mean(dim=0), torch.full((4, 4), 0.25), atol=0.03, rtol=0)
