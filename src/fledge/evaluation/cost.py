"""What a detector costs: parameters, arithmetic and time."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Cost:
    """Cost of one forward pass over one image, decoding left out of the FLOPs and kept in the time.

    Attributes:
        parameters: all parameters, frozen ones included.
        flops: floating-point operations (a multiply-add counts as two).
        milliseconds: median time of forward and decode at batch 1.
        size: (height, width) of the image.
        threads: CPU threads used for the time.
    """

    parameters: int
    flops: int
    milliseconds: float
    size: tuple[int, int]
    threads: int


@torch.no_grad()
def measure_cost(detector: nn.Module, size: tuple[int, int], repeats: int = 20) -> Cost:
    """Count and time a detector on one random image of ``size`` (height, width), on the device it is on.

    On a CPU one thread is used: the time of a small network on several depends mostly on what else is running.
    """
    device = next(detector.parameters()).device
    training = detector.training
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    detector.eval()
    image = torch.randint(0, 255, (1, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).to(
        device
    )
    sizes = torch.tensor([size], device=device)
    with FlopCounterMode(display=False) as counter:
        detector(image)
    times = []
    for _ in range(repeats + 2):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        detector.decode(detector(image), sizes)  # type: ignore[operator]
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    detector.train(training)
    torch.set_num_threads(threads)
    return Cost(
        parameters=sum(p.numel() for p in detector.parameters()),
        flops=int(counter.get_total_flops()),
        milliseconds=1000 * statistics.median(times[2:]),
        size=size,
        threads=1,
    )
