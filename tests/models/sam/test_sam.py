from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fledge.errors import UsageError
from fledge.models.sam.checkpoints import load_sam
from fledge.models.sam.frame import masks_to_image
from fledge.models.sam.sam import Embedded, Prompts, Sam


class Quick(nn.Module):
    """An encoder in place of a slow one: means of 16 × 16 pixels, mixed."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 256, 1)

    def forward(self, frames: Tensor) -> Tensor:
        mixed: Tensor = self.mix(F.avg_pool2d(frames, 16))
        return mixed


@pytest.fixture(scope="module")
def sam() -> Sam:
    torch.manual_seed(0)
    return Sam(Quick())


def image(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


@pytest.mark.slow
def test_mobilesam_from_image_to_masks(mobile_file: Path) -> None:
    """The whole at full size, on random weights: shapes, no gradient, the same bits again."""
    sam, _ = load_sam("mobilesam", mobile_file)
    (embedded,) = sam.embed([image(90, 120)])
    assert (embedded.map.shape, embedded.map.dtype) == ((256, 64, 64), torch.float32)
    assert embedded.valid().shape == (256, 48, 64)
    assert torch.equal(embedded.valid(), embedded.map[:, :48])
    prompts = Prompts(torch.tensor([[[60.0, 45.0]], [[3.0, 80.0]]]), torch.ones(2, 1))
    masks, iou = sam.masks(embedded, prompts)
    assert (masks.shape, iou.shape, masks.requires_grad) == ((2, 3, 256, 256), (2, 3), False)
    again, _ = sam.masks(embedded, prompts)
    assert torch.equal(masks, again)
    assert masks.isfinite().all()
    assert masks_to_image(masks, *embedded.size).shape == (2, 3, 90, 120)


def test_images_of_several_sizes_are_embedded_by_themselves(sam: Sam) -> None:
    images = [image(64, 48, 1), image(30, 50, 2), image(64, 48, 3)]
    together = sam.embed(images)
    for one, embedded in zip(images, together, strict=True):
        (alone,) = sam.embed([one])
        assert embedded.size == tuple(one.shape[1:])
        torch.testing.assert_close(embedded.map, alone.map, atol=1e-6, rtol=1e-6)
    assert sam.embed([]) == []


def test_prompts_are_pixels_of_the_image(sam: Sam) -> None:
    """The same place on the image of twice the size gives the same mask, up to the map."""
    (small,) = sam.embed([image(512, 256)])
    large = Embedded(small.map, (1024, 512))
    at_small = sam.masks(small, Prompts(boxes=torch.tensor([[10.0, 20.0, 100.0, 200.0]])), multimask=False)
    at_large = sam.masks(large, Prompts(boxes=torch.tensor([[20.0, 40.0, 200.0, 400.0]])), multimask=False)
    torch.testing.assert_close(at_small, at_large)
    elsewhere = sam.masks(large, Prompts(boxes=torch.tensor([[10.0, 20.0, 100.0, 200.0]])), multimask=False)
    assert not torch.allclose(at_small[0], elsewhere[0])


def test_a_prompt_alone_is_a_prompt_among_others(sam: Sam) -> None:
    (embedded,) = sam.embed([image(40, 64)])
    generator = torch.Generator().manual_seed(2)
    points, boxes = torch.rand(2, 2, 2, generator=generator) * 40, torch.rand(2, 4, generator=generator) * 40
    labels, masks = torch.tensor([[1, 0], [0, -1]]), torch.randn(2, 1, 256, 256, generator=generator)
    together = sam.masks(embedded, Prompts(points, labels, boxes, masks))
    for i in range(2):
        at = slice(i, i + 1)
        alone = sam.masks(embedded, Prompts(points[at], labels[at], boxes[at], masks[at]))
        for a, b in zip(alone, together, strict=True):
            torch.testing.assert_close(a[0], b[i], atol=1e-5, rtol=1e-4)
    only_masks, _ = sam.masks(embedded, Prompts(masks=masks))
    assert only_masks.shape == (2, 3, 256, 256)


def test_no_prompts_left(sam: Sam) -> None:
    """Such as after a filter."""
    (embedded,) = sam.embed([image(40, 64)])
    masks, iou = sam.masks(embedded, Prompts(torch.zeros(0, 1, 2), torch.zeros(0, 1)))
    assert (masks.shape, iou.shape) == ((0, 3, 256, 256), (0, 3))
    assert masks_to_image(masks, 40, 64).shape == (0, 3, 40, 64)


def test_autocast_around_it_changes_nothing(sam: Sam) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (inside,) = sam.embed([image(40, 64)])
    (outside,) = sam.embed([image(40, 64)])
    assert torch.equal(inside.map, outside.map)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ({}, "no prompts"),
        ({"points": torch.zeros(1, 1, 2)}, "half a prompt"),
        ({"points": torch.zeros(2, 1, 2), "labels": torch.ones(2, 2)}, "1 points, 2 labels"),
        ({"points": torch.zeros(2, 1, 2), "labels": torch.full((2, 1), 2)}, "neither 1, 0 nor -1"),
        ({"boxes": torch.zeros(2, 5)}, r"wrong shape: \[2, 5\]"),
        ({"boxes": torch.zeros(2, 4), "masks": torch.zeros(1, 1, 256, 256)}, "same number of each"),
        ({"masks": torch.zeros(1, 1, 64, 64)}, "wrong shape"),
    ],
)
def test_prompts_that_cannot_be_right(prompts: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Prompts(**prompts)
