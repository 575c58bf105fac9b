"""Which images a training step sees, and with which random changes: a pure function of seed and step.

Nothing here depends on how many workers prepare the batches, over how many processes a step is spread, or where a run
was interrupted: the order of an epoch comes from (seed, epoch), the changes of an image from (seed, epoch, index).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from fledge.data.labels import DetectionDataset
from fledge.data.transforms import ceil_stride, pad_colour
from fledge.data.workers import WorkerBoard, one_thread
from fledge.errors import DataError, UsageError
from fledge.types import Batch, Targets

Image = NDArray[np.uint8]
Transform = Callable[[Image, Targets, np.random.Generator], tuple[Image, Targets]]

# Streams of one seed that must not meet.
_ORDER, _SAMPLE = 0, 1


def epoch_order(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """The order (n,) in which an epoch visits the images."""
    sequence = np.random.SeedSequence([_ORDER, seed, epoch])
    return np.random.Generator(np.random.Philox(sequence)).permutation(n)


def sample_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random numbers for image ``index`` in an epoch."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([_SAMPLE, seed, epoch, index])))


def collate(samples: Sequence[tuple[Image, Targets]]) -> Batch:
    """Images (H, W, C) and targets as a batch, padded right and bottom to common multiples of 32."""
    height = ceil_stride(max(image.shape[0] for image, _ in samples))
    width = ceil_stride(max(image.shape[1] for image, _ in samples))
    colour = torch.tensor(pad_colour(samples[0][0].shape[2]), dtype=torch.uint8)
    images = colour.view(1, -1, 1, 1).repeat(len(samples), 1, height, width)
    for slot, (image, _) in zip(images, samples, strict=True):
        slot[:, : image.shape[0], : image.shape[1]] = torch.from_numpy(image).permute(2, 0, 1)
    sizes = torch.tensor([image.shape[:2] for image, _ in samples], dtype=torch.int64)
    return Batch(images, sizes, tuple(targets for _, targets in samples))


class TrainLoader:
    """The batches of a training run from one step to another.

    An epoch has n // batch_size steps and leaves out the rest of its order; with fewer images than ``batch_size`` each
    step sees all of them. A run resumed at ``start_step`` sees exactly the batches that the uninterrupted run would.
    The b images of a step are the same for any ``world_size`` and ``parts``: process ``rank`` gets the rank-th of
    ``world_size`` equal shares of them, in order, as ``parts`` batches one after the other.

    Args:
        dataset: the images to train on.
        transform: such as ``fledge.data.transforms.Augment``.
        batch_size: images per step, over all processes and parts.
        seed: of the run.
        start_step: the first step to give, counted from 0.
        total_steps: the step to stop before.
        workers: processes that prepare batches; 0 prepares them in this one.
        rank: of this process, counted from 0.
        world_size: processes that share a step.
        parts: batches that this process's share of a step comes in.
        pin: put the images into page-locked memory, from which a CUDA device copies while it computes.

    Raises:
        DataError: no images; while iterating, an image that cannot be read.
        UsageError: a batch size below 1, or b images that cannot be shared equally.
        ResourceError: while iterating, a worker died.
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        transform: Transform,
        batch_size: int,
        seed: int,
        *,
        start_step: int = 0,
        total_steps: int,
        workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
        parts: int = 1,
        pin: bool = False,
    ) -> None:
        if len(dataset) == 0:
            raise DataError(f"no images to train on: {dataset.root / dataset.split}: name a split that has some")
        if batch_size < 1:
            raise UsageError(f"batch size is {batch_size}: training loader: give at least 1")
        self.dataset, self.transform, self.seed = dataset, transform, seed
        self.workers, self.pin = workers, pin
        shares = world_size * parts
        if min(batch_size, len(dataset)) % shares:
            raise UsageError(
                f"a step of {min(batch_size, len(dataset))} images cannot be shared: {world_size} process(es) with "
                f"{parts} part(s) each: make batch_size a multiple of {shares}, not above the {len(dataset)} images"
            )
        places = range(rank * parts, (rank + 1) * parts)
        self.steps = _Steps(len(dataset), batch_size, seed, start_step, total_steps, places, shares)

    @property
    def steps_per_epoch(self) -> int:
        """Steps in one pass over the images."""
        return self.steps.per_epoch

    def __len__(self) -> int:
        """Batches, ``parts`` a step."""
        return len(self.steps)

    def __iter__(self) -> Iterator[Batch]:
        samples = _Samples(self.dataset, self.transform, self.seed, self.workers)
        loader: DataLoader[Any] = DataLoader(
            samples,
            batch_sampler=self.steps,
            num_workers=self.workers,
            collate_fn=_collate_or_error,
            worker_init_fn=one_thread,
            # Without a generator of its own the loader would draw from torch's global one, and a resumed run differ.
            generator=torch.Generator(),
        )
        with samples.board.explaining():
            for batch in samples.board.start(loader):
                if isinstance(batch, DataError):
                    raise batch
                yield replace(batch, images=batch.images.pin_memory()) if self.pin else batch


class _Place(NamedTuple):
    epoch: int
    image: int


class _Steps(Sampler[list[_Place]]):
    """The (epoch, index) pairs of each step: those of ``mine`` among its ``shares`` equal shares, one list a share."""

    def __init__(self, n: int, batch_size: int, seed: int, start: int, stop: int, mine: range, shares: int) -> None:
        self.n, self.seed, self.start, self.stop = n, seed, start, stop
        self.size = min(batch_size, n)
        self.per_epoch = n // self.size
        self.mine, self.share = mine, self.size // shares

    def __len__(self) -> int:
        return max(0, self.stop - self.start) * len(self.mine)

    def __iter__(self) -> Iterator[list[_Place]]:
        epoch, order = -1, np.zeros(0, dtype=np.int64)
        for step in range(self.start, self.stop):
            if step // self.per_epoch != epoch:
                epoch = step // self.per_epoch
                order = epoch_order(self.seed, epoch, self.n)
            for part in self.mine:
                first = step % self.per_epoch * self.size + part * self.share
                yield [_Place(epoch, image) for image in order[first : first + self.share].tolist()]


class _Samples(Dataset[tuple[Image, Targets] | DataError]):
    """The transformed images by place."""

    def __init__(self, dataset: DetectionDataset, transform: Transform, seed: int, workers: int) -> None:
        self.dataset, self.transform, self.seed = dataset, transform, seed
        self.board = WorkerBoard(workers, self._name)

    def __getitem__(self, place: _Place) -> tuple[Image, Targets] | DataError:
        epoch, index = place
        self.board.note(epoch, index)
        try:
            image, targets = self.dataset.read(index), self.dataset.targets(index)
            rng = sample_rng(self.seed, epoch, index)
            image, targets = self.transform(image, targets, rng)
            return image, replace(targets, draw=int(rng.integers(2**31)))
        except DataError as error:
            return error  # raised by the main process: a worker would wrap it in its own traceback
        except Exception as error:
            error.add_note(f"while preparing {self._name(epoch, index)}")
            raise

    def _name(self, epoch: int, index: int) -> str:
        return f"{self.dataset.paths[index]} (seed {self.seed}, epoch {epoch}, index {index})"


def _collate_or_error(samples: list[tuple[Image, Targets] | DataError]) -> Batch | DataError:
    good = []
    for sample in samples:
        if isinstance(sample, DataError):
            return sample
        good.append(sample)
    return collate(good)
