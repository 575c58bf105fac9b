from __future__ import annotations

import pytest
import torch
from tests.distill.samples import fixed

from fledge.distill.parts.attention import channel_attention, spatial_attention


@pytest.mark.parametrize("temperature", [0.1, 0.5, 100.0])
def test_mean_one_and_most_where_most_is(temperature: float) -> None:
    x = fixed()[0].abs()
    spatial, channel = spatial_attention(x, temperature), channel_attention(x, temperature)
    assert (spatial.shape, channel.shape) == ((2, 1, 4, 4), (2, 3, 1, 1))
    torch.testing.assert_close(spatial.mean(dim=(1, 2, 3)), torch.ones(2).double())
    torch.testing.assert_close(channel.mean(dim=(1, 2, 3)), torch.ones(2).double())
    assert torch.equal(spatial.flatten(1).argmax(dim=1), x.mean(dim=1).flatten(1).argmax(dim=1))
    assert torch.equal(channel.flatten(1).argmax(dim=1), x.flatten(2).mean(dim=2).argmax(dim=1))


def test_by_hand() -> None:
    """Means 0 and ln 3 at temperature 1: shares of a quarter and three quarters."""
    x = torch.tensor([0, 3.0]).log().clamp(min=0)
    torch.testing.assert_close(spatial_attention(x.view(1, 1, 1, 2), 1), torch.tensor([0.5, 1.5]).view(1, 1, 1, 2))
    torch.testing.assert_close(channel_attention(x.view(1, 2, 1, 1), 1), torch.tensor([0.5, 1.5]).view(1, 2, 1, 1))
