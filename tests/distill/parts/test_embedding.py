from __future__ import annotations

import pytest
import torch
from tests.distill.doubles import Means
from torch import nn
from torch.nn import functional as F

from fledge.distill.parts.embedding import Disturbance, disturbed
from fledge.models.embedders.orthogonal import orthogonal_map
from fledge.types import Batch

IMAGES = torch.randint(0, 256, (2, 3, 16, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
BATCH = Batch(IMAGES, torch.tensor([[16, 32], [16, 32]]), ())


def test_the_sigmoid_of_the_embedding_is_resized_and_added() -> None:
    disturbance = Disturbance(Means(), 3)
    features = torch.randn(2, 3, 7, 9)
    found = disturbed(features, disturbance(BATCH))
    plain = torch.sigmoid(F.avg_pool2d(IMAGES.float(), 8) / 128 - 1)
    for i in range(7):
        for j in range(9):
            # Bilinear by hand, cells' centres at (i + 1/2) / 7 of the frame.
            y, x = ((i + 0.5) * 2 / 7 - 0.5, (j + 0.5) * 4 / 9 - 0.5)
            value = torch.zeros(2, 3)
            for row in range(2):
                for column in range(4):
                    weight = max(0, 1 - abs(min(max(y, 0), 1) - row)) * max(0, 1 - abs(min(max(x, 0), 3) - column))
                    value += weight * plain[:, :, row, column]
            torch.testing.assert_close(found[:, :, i, j] - features[:, :, i, j], value)


@pytest.mark.parametrize("channels", [2, 5])
def test_another_width_goes_through_a_fixed_map(channels: int) -> None:
    projection = orthogonal_map(3, channels, 0)
    added = Disturbance(Means(), channels, projection)(BATCH)
    raw = F.avg_pool2d(IMAGES.float(), 8) / 128 - 1
    torch.testing.assert_close(added, torch.einsum("ij,bjhw->bihw", projection[:, :, 0, 0], raw).sigmoid())
    assert 0 < float(added.min()) < float(added.max()) < 1


@pytest.mark.parametrize(("channels", "projection"), [(4, None), (4, orthogonal_map(3, 5, 0))])
def test_widths_that_do_not_fit_are_refused(channels: int, projection: torch.Tensor | None) -> None:
    with pytest.raises(ValueError, match="3 channels needs a projection to 4"):
        Disturbance(Means(), channels, projection)


def test_the_embedder_is_hidden_frozen_and_moved() -> None:
    embedder = Means()
    holder = nn.ModuleDict({"a": Disturbance(embedder, 4, orthogonal_map(3, 4, 0))})
    assert not holder.state_dict()
    assert not list(holder.parameters())
    assert not list(embedder.parameters())
    holder.train()
    assert not embedder.network.training
    assert not holder["a"](BATCH).requires_grad
    holder.double()
    assert {p.dtype for p in embedder.network.parameters()} == {torch.float64}
    assert {b.dtype for b in holder.buffers()} == {torch.float64}


def test_it_computes_in_single_under_autocast() -> None:
    disturbance = Disturbance(Means(), 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert disturbance(BATCH).dtype == torch.float32
