"""Order and randomness: a pure function of seed and step, for any number of workers and any interruption."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fledge.data.datasets import open_dataset
from fledge.data.labels import DetectionDataset
from fledge.data.sampling import TrainLoader, collate, epoch_order, sample_rng
from fledge.data.transforms import PAD, Augment
from fledge.errors import DataError, UsageError
from fledge.types import Batch, Targets

AUGMENT = Augment(64, hflip=True, vflip=True, rotate_degrees=20, scale=(0.8, 1.2), photometric=0.5)


@pytest.fixture
def dataset(tmp_path: Path) -> DetectionDataset:
    """Seven noisy images with 0 to 6 objects."""
    (tmp_path / "train" / "images").mkdir(parents=True)
    (tmp_path / "train" / "labelTxt").mkdir()
    rng = np.random.default_rng(0)
    for k in range(7):
        image = rng.integers(0, 256, (40 + k, 60, 3), dtype=np.uint8)
        assert cv2.imwrite(str(tmp_path / "train" / "images" / f"i{k}.png"), image)
        lines = [f"{10 + j} 10 {30 + j} 10 {30 + j} 20 {10 + j} 20 plane 0\n" for j in range(k)]
        (tmp_path / "train" / "labelTxt" / f"i{k}.txt").write_text("".join(lines))
    return open_dataset(tmp_path, "train")


def equal(a: Batch, b: Batch) -> bool:
    same = torch.equal(a.images, b.images) and torch.equal(a.sizes, b.sizes)
    pairs = zip(a.targets, b.targets, strict=True)
    return same and all(x.image_id == y.image_id and torch.equal(x.boxes, y.boxes) for x, y in pairs)


def ids(batch: Batch) -> list[str]:
    return [targets.image_id for targets in batch.targets]


def test_order_is_a_permutation_that_depends_on_seed_and_epoch_only() -> None:
    assert sorted(epoch_order(3, 1, 50).tolist()) == list(range(50))
    assert np.array_equal(epoch_order(3, 1, 50), epoch_order(3, 1, 50))
    others = [epoch_order(3, 2, 50), epoch_order(4, 1, 50), epoch_order(1, 3, 50)]
    assert not any(np.array_equal(epoch_order(3, 1, 50), other) for other in others)


def test_each_image_of_each_epoch_has_numbers_of_its_own() -> None:
    draws = {sample_rng(s, e, i).random() for s in range(3) for e in range(3) for i in range(3)}
    assert len(draws) == 27
    assert sample_rng(0, 1, 2).random() == sample_rng(0, 1, 2).random()


def test_an_epoch_visits_no_image_twice(dataset: DetectionDataset) -> None:
    batches = list(TrainLoader(dataset, AUGMENT, 2, seed=0, total_steps=6))
    assert [len(batch.targets) for batch in batches] == [2] * 6
    for epoch in (batches[:3], batches[3:]):
        seen = [name for batch in epoch for name in ids(batch)]
        assert len(set(seen)) == 6
    assert [ids(b) for b in batches[:3]] != [ids(b) for b in batches[3:]]


def test_workers_change_nothing(dataset: DetectionDataset) -> None:
    alone = list(TrainLoader(dataset, AUGMENT, 2, seed=5, total_steps=5))
    helped = list(TrainLoader(dataset, AUGMENT, 2, seed=5, total_steps=5, workers=2))
    assert len(alone) == len(helped) == 5
    assert all(equal(a, b) for a, b in zip(alone, helped, strict=True))


@pytest.mark.parametrize("start", [0, 1, 3, 4, 7])
def test_a_resumed_run_sees_the_rest_of_the_full_run(dataset: DetectionDataset, start: int) -> None:
    full = list(TrainLoader(dataset, AUGMENT, 2, seed=5, total_steps=7))
    loader = TrainLoader(dataset, AUGMENT, 2, seed=5, start_step=start, total_steps=7)
    rest = list(loader)
    assert len(loader) == len(rest) == 7 - start
    assert all(equal(a, b) for a, b in zip(full[start:], rest, strict=True))


def test_the_loader_leaves_the_global_random_state_alone(dataset: DetectionDataset) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    list(TrainLoader(dataset, AUGMENT, 2, seed=5, total_steps=2))
    assert torch.equal(torch.rand(3), expected)


def test_fewer_images_than_the_batch_give_all_of_them_each_step(dataset: DetectionDataset) -> None:
    loader = TrainLoader(dataset.subset([0, 4, 2]), AUGMENT, 8, seed=0, total_steps=3)
    assert loader.steps_per_epoch == 1
    assert all(sorted(ids(batch)) == ["i0", "i2", "i4"] for batch in loader)


def test_no_images_and_no_batch_are_refused_at_once(dataset: DetectionDataset) -> None:
    with pytest.raises(DataError, match=r"no images to train on: .*train: name a split"):
        TrainLoader(dataset.subset([]), AUGMENT, 2, seed=0, total_steps=1)
    with pytest.raises(UsageError, match="batch size is 0"):
        TrainLoader(dataset, AUGMENT, 0, seed=0, total_steps=1)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named_in_one_line(dataset: DetectionDataset, workers: int) -> None:
    data = dataset.paths[3].read_bytes()
    dataset.paths[3].write_bytes(data[: len(data) // 2])
    dataset = open_dataset(dataset.root, "train")
    with pytest.raises(DataError, match=r"^truncated image: [^\n]*i3\.png: [^\n]*$"):
        list(TrainLoader(dataset, AUGMENT, 7, seed=0, total_steps=1, workers=workers))


def test_any_other_error_carries_the_path_of_its_image(dataset: DetectionDataset) -> None:
    broken = replace(dataset, ids=())
    with pytest.raises(IndexError) as caught:
        list(TrainLoader(broken, AUGMENT, 7, seed=3, total_steps=1))
    (note,) = caught.value.__notes__
    assert ".png (seed 3, epoch 0, index " in note


def test_collate_pads_to_multiples_of_32_with_the_mean_colour() -> None:
    small = np.full((40, 20, 3), 9, np.uint8)
    large = np.full((33, 65, 3), 250, np.uint8)
    large[..., 2] = 1
    batch = collate([(small, Targets.empty("a")), (large, Targets.empty("b"))])
    assert batch.images.shape == (2, 3, 64, 96)
    assert batch.images.dtype == torch.uint8
    assert batch.sizes.tolist() == [[40, 20], [33, 65]]
    assert bool((batch.images[0, :, :40, :20] == 9).all())
    assert batch.images[1, :, 0, 0].tolist() == [250, 250, 1]
    assert batch.images[0, :, 50, 50].tolist() == list(PAD)
    assert batch.images[1, :, 63, 0].tolist() == list(PAD)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_collate_pads_other_channels_with_grey(channels: int) -> None:
    small, large = np.full((40, 20, channels), 9, np.uint8), np.full((33, 65, channels), 250, np.uint8)
    batch = collate([(small, Targets.empty("a")), (large, Targets.empty("b"))])
    assert batch.images.shape == (2, channels, 64, 96)
    assert bool((batch.images[0, :, :40, :20] == 9).all())
    assert batch.images[0, :, 50, 50].tolist() == [128] * channels


@pytest.mark.skipif(not torch.cuda.is_available(), reason="only a CUDA device pins memory")
def test_batches_can_be_pinned(dataset: DetectionDataset) -> None:
    (plain,) = TrainLoader(dataset, AUGMENT, 4, seed=2, total_steps=1)
    (pinned,) = TrainLoader(dataset, AUGMENT, 4, seed=2, total_steps=1, pin=True)
    assert pinned.images.is_pinned()
    assert equal(plain, pinned)


@pytest.mark.parametrize(("world_size", "parts"), [(1, 1), (2, 1), (1, 3), (3, 1), (3, 2)])
def test_processes_and_parts_share_the_images_of_a_step(dataset: DetectionDataset, world_size: int, parts: int) -> None:
    whole = [ids(batch) for batch in TrainLoader(dataset, AUGMENT, 6, seed=2, start_step=1, total_steps=3)]
    loaders = [
        TrainLoader(
            dataset, AUGMENT, 6, seed=2, start_step=1, total_steps=3, rank=rank, world_size=world_size, parts=parts
        )
        for rank in range(world_size)
    ]
    shares = [[ids(batch) for batch in loader] for loader in loaders]
    assert all(len(loader) == len(share) == 2 * parts for loader, share in zip(loaders, shares, strict=True))
    for step in (0, 1):
        batches = [batch for share in shares for batch in share[step * parts : (step + 1) * parts]]
        assert {len(batch) for batch in batches} == {6 // (world_size * parts)}
        assert [name for batch in batches for name in batch] == whole[step]


def test_an_image_changes_the_same_way_in_any_share(dataset: DetectionDataset) -> None:
    (whole,) = TrainLoader(dataset, AUGMENT, 4, seed=2, total_steps=1)
    second = list(TrainLoader(dataset, AUGMENT, 4, seed=2, total_steps=1, rank=1, world_size=2, parts=2))
    images = torch.cat([batch.images for batch in second])
    assert torch.equal(images, whole.images[2:])
    assert torch.equal(second[0].targets[0].boxes, whole.targets[2].boxes)


@pytest.mark.parametrize(("batch_size", "world_size", "parts"), [(6, 4, 1), (6, 1, 4), (6, 2, 2), (8, 2, 1)])
def test_a_step_that_cannot_be_shared_equally_is_refused(
    dataset: DetectionDataset, batch_size: int, world_size: int, parts: int
) -> None:
    with pytest.raises(
        UsageError, match=rf"make batch_size a multiple of {world_size * parts}, not above the 7 images"
    ):
        TrainLoader(dataset, AUGMENT, batch_size, seed=0, total_steps=1, world_size=world_size, parts=parts)
