"""What a detector costs: parameters, arithmetic and time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Cost:
    """Cost of finding the objects of one image.

    Attributes:
        parameters: all parameters, frozen ones included.
        flops: floating-point operations of the network (a multiply-add counts as two).
        milliseconds: median time of the network's forward pass at batch 1.
        decode_milliseconds: median time of decoding and suppression, which grows with what is found; None: both are
            one, and within ``milliseconds``.
        size: (height, width) of the image.
        threads: CPU threads used for the time.
    """

    parameters: int
    flops: int
    milliseconds: float
    decode_milliseconds: float | None
    size: tuple[int, int]
    threads: int


@torch.no_grad()
def measure_cost(
    detector: nn.Module,
    size: tuple[int, int],
    repeats: int = 20,
    images: Sequence[Tensor] | None = None,
    channels: int = 3,
) -> Cost:
    """Count and time a detector on images of ``size`` (height, width), on the device it is on.

    On a CPU one thread is used: the time of a small network on several depends mostly on what else is running.

    Args:
        detector: its mode is restored afterwards.
        size: of the network's input.
        repeats: how many passes the median is over.
        images: (C, H, W) uint8 of that size, taken in turn. Give real ones for the time of a trained detector: what
            decoding takes depends on how much there is to find. By default one image of noise.
        channels: C of the image of noise.
    """
    device = next(detector.parameters()).device
    training, threads = detector.training, torch.get_num_threads()
    torch.set_num_threads(1)
    detector.eval()
    noise = torch.randint(0, 255, (channels, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    inputs = [image[None].to(device) for image in images or [noise]]
    parameters, flops = count_operations(detector, inputs[0])
    passes = [_seconds(detector, inputs[i % len(inputs)]) for i in range(repeats + 2)]
    detector.train(training)
    torch.set_num_threads(threads)
    return Cost(
        parameters=parameters,
        flops=flops,
        milliseconds=1000 * statistics.median(forward for forward, _ in passes[2:]),
        decode_milliseconds=1000 * statistics.median(decode for _, decode in passes[2:]),
        size=size,
        threads=1,
    )


def measure_whole(network: nn.Module, run: Callable[[Tensor], object], images: Sequence[Tensor]) -> Cost:
    """Cost of a detector that computes boxes from bytes in one piece, such as an exported file.

    Args:
        network: what it was made from, in eval mode on the CPU, to be counted.
        run: finds the objects of one (C, H, W) uint8 image, with one thread.
        images: of one size, taken in turn; 20 passes are timed.
    """
    parameters, flops = count_operations(network, images[0][None])
    times = []
    for i in range(22):
        start = time.perf_counter()
        run(images[i % len(images)])
        times.append(time.perf_counter() - start)
    height, width = images[0].shape[-2:]
    return Cost(parameters, flops, 1000 * statistics.median(times[2:]), None, (height, width), 1)


@torch.no_grad()
def count_operations(detector: nn.Module, images: Tensor) -> tuple[int, int]:
    """Parameters, and floating-point operations for one batch of images (B, C, H, W) uint8."""
    with FlopCounterMode(display=False) as counter:
        detector(images)
    return sum(p.numel() for p in detector.parameters()), int(counter.get_total_flops())


def _seconds(detector: nn.Module, image: Tensor) -> tuple[float, float]:
    """Time of forward and of decode on one (1, C, H, W) image."""
    sizes = torch.tensor([image.shape[-2:]], device=image.device)
    _wait(image.device)
    start = time.perf_counter()
    outputs = detector(image)
    _wait(image.device)
    middle = time.perf_counter()
    detector.decode(outputs, sizes)  # type: ignore[operator]
    _wait(image.device)
    return middle - start, time.perf_counter() - middle


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
