from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fledge.errors import UsageError
from fledge.geometry import corners, deformable_sample, rotated_sampling_locations, sampling_locations
from fledge.geometry.deformable import _gathered
from fledge.geometry.sampling_operators import deformable_sum, deformable_sum_backward

from .apart import apart

SHAPES = ((6, 8), (3, 4), (1, 2))


def case(
    seed: int, batch: int = 2, queries: int = 5, heads: int = 2, channels: int = 3, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Values, locations inside, at the border and outside, and weights of both signs."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    levels, points = len(SHAPES), 4
    values = normal(batch, sum(h * w for h, w in SHAPES), heads, channels)
    return (
        values,
        normal(batch, queries, heads, levels, points, 2) / 2 + 0.5,
        normal(batch, queries, heads, levels, points),
    )


def by_grid_sample(values: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """One grid_sample per level and head, as the equations read."""
    heads = []
    for head in range(values.shape[2]):
        total, start = torch.zeros(()), 0
        for level, (h, w) in enumerate(SHAPES):
            plane = values[:, start : start + h * w, head].transpose(1, 2).reshape(len(values), -1, h, w)
            grid = 2 * locations[:, :, head, level] - 1
            sampled = F.grid_sample(plane, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
            total = total + (sampled * weights[:, None, :, head, level]).sum(-1)
            start += h * w
        heads.append(total.transpose(1, 2))
    return torch.cat(heads, dim=2)


@pytest.mark.parametrize("seed", range(5))
def test_equals_grid_sample(seed: int) -> None:
    values, locations, weights = case(seed)
    found = deformable_sample(values, locations, weights, SHAPES)
    torch.testing.assert_close(found, by_grid_sample(values, locations, weights), rtol=0, atol=1e-5)


def test_gradients_equal_those_of_grid_sample() -> None:
    ours, theirs = ([t.double().requires_grad_() for t in case(6)] for _ in range(2))
    deformable_sample(ours[0], ours[1], ours[2], SHAPES).square().sum().backward()  # type: ignore[no-untyped-call]
    by_grid_sample(theirs[0], theirs[1], theirs[2]).square().sum().backward()  # type: ignore[no-untyped-call]
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("seed", range(2))
def test_gradients(seed: int) -> None:
    values, locations, weights = (t.requires_grad_() for t in case(seed, 1, 2, 2, 2, torch.float64))
    assert torch.autograd.gradcheck(lambda v, at, w: deformable_sample(v, at, w, SHAPES), (values, locations, weights))


def test_a_ramp_is_read_at_the_location() -> None:
    """By hand: cell centres lie at (i + 0.5) / W, and the weights are applied as they are."""
    values = ((torch.arange(8) + 0.5) / 8).expand(8, 8).reshape(1, 64, 1, 1)
    locations = torch.tensor([0.3, 0.7]).expand(1, 1, 1, 1, 2, 2)
    found = deformable_sample(values, locations, torch.tensor([2.0, 3.0]).view(1, 1, 1, 1, 2), [(8, 8)])
    torch.testing.assert_close(found, torch.tensor([[[5 * 0.3]]]))


def test_beyond_the_maps_lie_zeros() -> None:
    values, locations, weights = case(0)
    assert not deformable_sample(values, locations * 1e30 + 2e30, weights, SHAPES).any()
    assert not deformable_sample(values, torch.full_like(locations, -5), weights, SHAPES).any()


def test_nan_stays_in_its_query_and_head() -> None:
    values, locations, weights = case(1)
    expected = deformable_sample(values, locations, weights, SHAPES)
    locations[0, 2, 1, 0, 0, 0] = math.nan
    found = deformable_sample(values, locations, weights, SHAPES)
    broken = torch.zeros_like(found, dtype=torch.bool)
    broken[0, 2, 3:] = True
    assert torch.equal(found.isnan(), broken)
    torch.testing.assert_close(found[~broken], expected[~broken])


def sampled(given: list[Tensor]) -> Tensor:
    return deformable_sample(given[0], given[1], given[2], SHAPES)


def by_gather(values: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """What runs on a GPU and in an exported program."""
    return _gathered(values, locations, weights, SHAPES).flatten(2)


@pytest.mark.parametrize("shift", [0.0, 1.2, -1.2])
def test_the_loop_equals_the_gather(shift: float) -> None:
    """With gradients; in the middle of the maps, and across each of their borders."""
    given = case(8, queries=40, dtype=torch.float64)
    given = given[0], given[1] + shift * torch.tensor([1.0, -1.0]), given[2]
    ours, theirs = ([t.clone().requires_grad_() for t in given] for _ in range(2))
    found, expected = sampled(ours), by_gather(*theirs)
    torch.testing.assert_close(found, expected)
    (found.sin().sum() + expected.sin().sum()).backward()  # type: ignore[no-untyped-call]
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@given(place=st.floats(-3, 3), size=st.integers(1, 5))
def test_one_cell_and_one_sample(place: float, size: int) -> None:
    """By hand: a row of cells 1, 2, … is a hat at each cell's centre."""
    values = torch.arange(1.0, size + 1, dtype=torch.float64).view(1, size, 1, 1)
    location = torch.tensor([place, 0.5], dtype=torch.float64).view(1, 1, 1, 1, 1, 2)
    found = deformable_sample(values, location, torch.ones(1, 1, 1, 1, 1), [(1, size)])
    expected = sum((k + 1) * max(0.0, 1 - abs(place * size - 0.5 - k)) for k in range(size))
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_threads_do_not_show() -> None:
    given = [t.requires_grad_() for t in case(9, queries=30)]
    results = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        try:
            found = sampled(given)
            results.append((found, *torch.autograd.grad(found.sin().sum(), given)))
        finally:
            torch.set_num_threads(1)
    for one, three in zip(*results, strict=True):
        assert torch.equal(one, three)


def test_a_nan_weight_beyond_the_map_shows() -> None:
    values, locations, weights = case(1)
    weights[1, 3, 0, 2, 1] = math.nan
    for far in (locations, locations + 9):
        for found in (deformable_sample(values, far, weights, SHAPES), by_gather(values, far, weights)):
            assert found[1, 3, :3].isnan().all()
            assert found.isnan().sum() == 3


@pytest.mark.filterwarnings("ignore:The .grad attribute")
@apart
def test_the_operators_keep_the_rules_of_pytorch() -> None:
    sizes = [side for shape in SHAPES for side in shape]
    given = [t.requires_grad_() for t in case(3, dtype=torch.float64)]
    torch.library.opcheck(deformable_sum, (*given, sizes))
    grad = torch.ones(2, 5, 2, 3, dtype=torch.float64)
    torch.library.opcheck(deformable_sum_backward, (grad, *(t.detach() for t in given), sizes))


def test_no_queries() -> None:
    values, locations, weights = case(2)
    values.requires_grad_()
    found = deformable_sample(values, locations[:, :0], weights[:, :0], SHAPES)
    assert found.shape == (2, 0, 6)
    assert deformable_sample(values[:0], locations[:0], weights[:0], SHAPES).shape == (0, 5, 6)
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    values, locations, weights = case(3)
    values = values.to(dtype)
    expected = deformable_sample(values.float(), locations, weights, SHAPES)
    found = deformable_sample(values, locations, weights, SHAPES)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected.to(dtype), rtol=0, atol=0)
    with torch.autocast("cpu", dtype):
        again = deformable_sample(values.float(), locations, weights, SHAPES)
    torch.testing.assert_close(again, expected, rtol=0, atol=0)


def test_shapes_that_do_not_fit_are_named() -> None:
    values, locations, weights = case(4)
    wrong = (
        (values[:, 1:], locations, weights),
        (values, locations[:1], weights),
        (values, locations[:, :, :1], weights),
        (values, locations[:, :, :, :2], weights[:, :, :, :2]),
        (values, locations, weights[..., 0]),
        (values.flatten(2), locations, weights),
    )
    for arguments in wrong:
        with pytest.raises(UsageError, match="deformable_sample: values"):
            deformable_sample(*arguments, SHAPES)
    with pytest.raises(UsageError, match="deformable_sample: values"):
        deformable_sample(values[:, :0], locations[:, :, :, :1], weights[:, :, :, :1], [(0, 4)])


def test_offsets_around_points_are_cells_of_each_level() -> None:
    offsets = torch.tensor([1.0, -2.0]).expand(1, 1, 1, 3, 1, 2)
    found = sampling_locations(torch.tensor([[[0.5, 0.25]]]), offsets, SHAPES)[0, 0, 0, :, 0]
    expected = [[0.5 + 1 / w, 0.25 - 2 / h] for h, w in SHAPES]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_offsets_around_boxes_of_angle_0_are_those_of_deformable_detr() -> None:
    _, offsets, _ = case(5)
    boxes = torch.rand(2, 5, 5, generator=torch.Generator().manual_seed(0))
    boxes[..., 4] = 0
    reference = boxes[:, :, None, None, None]
    expected = reference[..., :2] + offsets / 4 * reference[..., 2:4] * 0.5
    torch.testing.assert_close(rotated_sampling_locations(boxes, offsets, (1, 1)), expected)


@pytest.mark.parametrize("angle", [-0.7, -0.2, 0.4, 0.78])
def test_offsets_of_p_lead_to_the_sides_and_corners(angle: float) -> None:
    """In an image that is not square."""
    box = torch.tensor([100.0, 60.0, 40.0, 10.0, angle], dtype=torch.float64)
    signs = torch.tensor([[-1.0, -1.0], [1, -1], [1, 1], [-1, 1]])
    found = rotated_sampling_locations(box.view(1, 1, 5), 4 * signs.view(1, 1, 1, 1, 4, 2), (200, 300))
    torch.testing.assert_close(found[0, 0, 0, 0] * torch.tensor([300, 200]), corners(box))


@pytest.mark.parametrize("turns", [-3, -1, 1, 2, 5])
def test_both_descriptions_of_a_box_give_the_same_locations(turns: int) -> None:
    """Up to half a turn, the angle is reduced to an eighth of a turn from the x axis."""
    _, offsets, _ = case(6, dtype=torch.float64)
    boxes = torch.rand(2, 5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    boxes[..., 4] = boxes[..., 4] * 1.5 - 0.75
    other = boxes[..., [0, 1, 3, 2, 4]] if turns % 2 else boxes.clone()
    other[..., 4] += turns * math.pi / 2
    expected = rotated_sampling_locations(boxes, offsets, (50, 70))
    torch.testing.assert_close(rotated_sampling_locations(other, offsets, (50, 70)), expected)


def test_gradients_of_the_rotated_locations() -> None:
    _, offsets, _ = case(7, 1, 3, 1, dtype=torch.float64)
    boxes = torch.rand(1, 3, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    arguments = (boxes.requires_grad_(), offsets.requires_grad_())
    assert torch.autograd.gradcheck(lambda b, o: rotated_sampling_locations(b, o, (3, 2)), arguments)


class Attend(torch.nn.Module):
    """Rotated references, then sampling."""

    def forward(self, values: Tensor, boxes: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
        locations = rotated_sampling_locations(boxes, offsets, (30, 40))
        return deformable_sample(values, locations, weights, SHAPES)


def inputs(seed: int, queries: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    values, offsets, weights = case(seed, queries=queries)
    boxes = torch.rand(2, queries, 5, generator=torch.Generator().manual_seed(seed))
    return values, boxes * torch.tensor([40, 30, 20, 10, 3.1]), offsets, weights


@apart
def test_compiles_without_a_graph_break() -> None:
    whole = torch.compile(Attend(), fullgraph=True, backend="aot_eager", dynamic=True)
    for queries in (5, 8):
        ours, theirs = ([t.requires_grad_() for t in inputs(1, queries)] for _ in range(2))
        found, expected = whole(*ours), Attend()(*theirs)
        torch.testing.assert_close(found, expected)
        (found.sin().sum() + expected.sin().sum()).backward()
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a.grad, b.grad)
