from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import roi_align

from fledge.errors import UsageError
from fledge.geometry import hulls, rotated_roi_align

from .apart import apart

SIZE = (3, 2)


def crowd(count: int, seed: int, area: float = 40, dtype: torch.dtype = torch.float32) -> Tensor:
    """Boxes (N, 5) inside, across and beyond a map of 40 pixels."""
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(count, 5, generator=generator, dtype=dtype)
    return boxes * torch.tensor([area + 16, area + 16, 19, 11, 6.3]) + torch.tensor([-8, -8, 0.1, 0.1, -3.1])


def maps(seed: int, batch: int = 2, channels: int = 3, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(batch, channels, 12, 10, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def bilinear(plane: list[list[float]], x: float, y: float) -> float:
    """One sample, by torchvision's rule for the border."""
    height, width = len(plane), len(plane[0])
    if not (-1 <= x <= width and -1 <= y <= height):
        return 0.0
    x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
    total = 0.0
    for row in range(height):
        for column in range(width):
            total += plane[row][column] * max(0.0, 1 - abs(row - y)) * max(0.0, 1 - abs(column - x))
    return total


def slow_roi_align(plane: list[list[float]], box: list[float], scale: float, samples: int, aligned: bool) -> Tensor:
    """One channel and one box; each sample is found by walking from the box's first corner along its sides."""
    cx, cy, w, h, angle = box
    cos, sin = math.cos(angle), math.sin(angle)
    first = (cx - w / 2 * cos + h / 2 * sin, cy - w / 2 * sin - h / 2 * cos)
    if not aligned:
        w, h = max(w, 1 / scale), max(h, 1 / scale)
    bins = torch.zeros(SIZE, dtype=torch.float64)
    down, across = samples or math.ceil(h * scale / SIZE[0]), samples or math.ceil(w * scale / SIZE[1])
    for i in range(SIZE[0]):
        for j in range(SIZE[1]):
            for a in range(down):
                for b in range(across):
                    v = h * (i + (a + 0.5) / down) / SIZE[0]
                    u = w * (j + (b + 0.5) / across) / SIZE[1]
                    x = (first[0] + u * cos - v * sin) * scale - 0.5 * aligned
                    y = (first[1] + u * sin + v * cos) * scale - 0.5 * aligned
                    bins[i, j] += bilinear(plane, x, y) / (down * across)
    return bins


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("samples", [0, 1, 2, 3])
def test_equals_a_plain_loop(samples: int, aligned: bool) -> None:
    features, boxes = maps(0, 1, 1, torch.float64), crowd(12, samples, dtype=torch.float64)
    found = rotated_roi_align(features, [boxes], SIZE, 0.25, samples, aligned)
    for box, bins in zip(boxes.tolist(), found[:, 0], strict=True):
        expected = slow_roi_align(features[0, 0].tolist(), box, 0.25, samples, aligned)
        torch.testing.assert_close(bins, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("samples", [0, 1, 2, 3])
@settings(max_examples=10)
@given(seed=st.integers(0, 10_000))
def test_equals_torchvision_at_angle_0(samples: int, aligned: bool, seed: int) -> None:
    features = maps(seed)
    boxes = [crowd(15, seed), crowd(15, seed + 1)]
    for some in boxes:
        some[:, 4] = 0
    expected = roi_align(features, [hulls(b) for b in boxes], (4, 3), 0.25, samples, aligned)
    found = rotated_roi_align(features, boxes, (4, 3), 0.25, samples, aligned)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_half_a_turn_reverses_the_bins_and_a_quarter_turns_them() -> None:
    features, boxes = maps(1, dtype=torch.float64), crowd(20, 1, dtype=torch.float64)
    plain = rotated_roi_align(features, [boxes[:9], boxes[9:]], SIZE, 0.25)
    half = boxes + torch.tensor([0, 0, 0, 0, math.pi], dtype=torch.float64)
    torch.testing.assert_close(rotated_roi_align(features, [half[:9], half[9:]], SIZE, 0.25), plain.flip(2, 3))
    quarter = boxes[:, [0, 1, 3, 2, 4]] + torch.tensor([0, 0, 0, 0, math.pi / 2], dtype=torch.float64)
    turned = rotated_roi_align(features, [quarter[:9], quarter[9:]], SIZE[::-1], 0.25)
    torch.testing.assert_close(turned, plain.flip(3).transpose(2, 3))


def test_a_map_of_positions_gives_the_centres_of_the_bins_in_pixels() -> None:
    """Half-pixel correctness by hand: a ramp is sampled without error, whatever the angle and the scale."""
    ramp = (torch.arange(64, dtype=torch.float64) + 0.5) * 4
    features = torch.stack([ramp.expand(64, 64), ramp[:, None].expand(64, 64)])[None]
    box = torch.tensor([[120.0, 130.0, 40.0, 20.0, math.pi / 6]], dtype=torch.float64)
    for ratio in (0, 2):
        x, y = rotated_roi_align(features, [box], (1, 2), 0.25, ratio)[0, :, 0].unbind()
        shift = torch.tensor([-10.0, 10.0], dtype=torch.float64)
        torch.testing.assert_close(x, 120 + shift * math.cos(math.pi / 6))
        torch.testing.assert_close(y, 130 + shift * 0.5)  # clockwise on screen: the second bin is lower


def test_the_image_index_form_is_the_same_in_any_order() -> None:
    features, boxes = maps(2), crowd(30, 2)
    indexed = torch.cat([(torch.arange(30) >= 10).float()[:, None], boxes], dim=1)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    for ratio in (0, 2):
        listed = rotated_roi_align(features, [boxes[:10], boxes[10:]], 2, 0.25, ratio)
        torch.testing.assert_close(rotated_roi_align(features, indexed[order], 2, 0.25, ratio), listed[order])


def test_boxes_beyond_the_map_are_zero() -> None:
    boxes = torch.tensor([[-50.0, 5, 10, 5, 0.3], [20, 400, 30, 8, -1], [1e30, 0, 5, 5, 0], [1e9, -1e9, 9, 9, 1]])
    assert not rotated_roi_align(maps(3, 1), [boxes], 3, 0.25).any()


def test_no_side_has_no_samples_when_adaptive_and_one_place_when_not() -> None:
    box = torch.tensor([[20.0, 20, 0, 8, 0.4]])
    assert not rotated_roi_align(maps(4, 1), [box], 2, 0.25, 0).any()
    columns = rotated_roi_align(maps(4, 1), [box], 2, 0.25).unbind(3)
    assert columns[0].any()
    torch.testing.assert_close(*columns)


def test_nan_stays_in_its_box() -> None:
    boxes = crowd(6, 5, 20)
    boxes[:, :2] = 20
    expected = rotated_roi_align(maps(5, 1), [boxes], 2, 0.25)
    for column in range(5):
        broken = boxes.clone()
        broken[2, column] = math.nan
        found = rotated_roi_align(maps(5, 1), [broken], 2, 0.25)
        assert found[2].isnan().all()
        torch.testing.assert_close(found[[0, 1, 3, 4, 5]], expected[[0, 1, 3, 4, 5]])
        assert rotated_roi_align(maps(5, 1), [broken], 2, 0.25, 0)[2].isnan().all()


@pytest.mark.parametrize("ratio", [0, 2])
def test_no_boxes(ratio: int) -> None:
    features = maps(6).requires_grad_()
    found = rotated_roi_align(features, [torch.zeros(0, 5), torch.zeros(0, 5)], (7, 5), 0.25, ratio)
    assert found.shape == (0, 3, 7, 5)
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert features.grad is not None
    assert not features.grad.any()
    assert rotated_roi_align(features, torch.zeros(0, 6), 7, 0.25, ratio).shape == (0, 3, 7, 7)


@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("seed", range(2))
def test_gradients(ratio: int, seed: int) -> None:
    features = maps(seed, 2, 1, torch.float64)[:, :, :6, :5].contiguous().requires_grad_()
    boxes = crowd(4, seed, 12, dtype=torch.float64).requires_grad_()

    def run(features: Tensor, boxes: Tensor) -> Tensor:
        return rotated_roi_align(features, [boxes[:2], boxes[2:]], 2, 0.25, ratio)

    assert torch.autograd.gradcheck(run, (features, boxes))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    features, boxes = maps(7, 1).to(dtype), crowd(20, 7)
    expected = rotated_roi_align(features.float(), [boxes], 3, 0.25)
    with torch.autocast("cpu", dtype):
        torch.testing.assert_close(rotated_roi_align(features.float(), [boxes], 3, 0.25), expected, rtol=0, atol=0)
    found = rotated_roi_align(features, [boxes], 3, 0.25)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected.to(dtype), rtol=0, atol=0)


def test_channels_last_and_strided_maps() -> None:
    features, boxes = maps(8), [crowd(5, 8), crowd(7, 9)]
    expected = rotated_roi_align(features, boxes, 3, 0.25)
    last = features.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(rotated_roi_align(last, boxes, 3, 0.25), expected)
    strided = features.repeat_interleave(2, dim=3)[..., ::2]
    torch.testing.assert_close(rotated_roi_align(strided, boxes, 3, 0.25), expected)


@pytest.mark.parametrize(
    ("boxes", "size", "ratio", "said"),
    [
        ([torch.zeros(1, 5)], 7, 2, "one (N, 5) tensor per image"),
        ([torch.zeros(1, 4)] * 2, 7, 2, "one (N, 5) tensor per image"),
        (torch.zeros(3, 5), 7, 2, "(N, 6)"),
        ([torch.zeros(1, 5)] * 2, (7, 0), 2, "at least 1"),
        ([torch.zeros(1, 5)] * 2, 7, -1, "at least 0"),
    ],
)
def test_bad_arguments_are_named(boxes: Tensor | list[Tensor], size: int, ratio: int, said: str) -> None:
    with pytest.raises(UsageError, match="rotated_roi_align") as raised:
        rotated_roi_align(maps(0), boxes, size, 0.25, ratio)
    assert said in str(raised.value)
    with pytest.raises(UsageError, match="features"):
        rotated_roi_align(maps(0)[0], boxes, 7)


class Align(torch.nn.Module):
    def forward(self, features: Tensor, boxes: Tensor) -> Tensor:
        return rotated_roi_align(features, boxes, 2, 0.25)


def indexed(count: int, seed: int) -> Tensor:
    return torch.cat([torch.arange(count)[:, None] % 2, crowd(count, seed)], dim=1)


@apart
def test_compiles_without_a_graph_break() -> None:
    whole = torch.compile(Align(), fullgraph=True, backend="aot_eager", dynamic=True)
    for count in (6, 11):
        ours, theirs = ((maps(9).requires_grad_(), indexed(count, 1).requires_grad_()) for _ in range(2))
        found, expected = whole(*ours), Align()(*theirs)
        torch.testing.assert_close(found, expected)
        (found.sin().sum() + expected.sin().sum()).backward()
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a.grad, b.grad)
