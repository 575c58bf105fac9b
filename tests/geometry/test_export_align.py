"""RoIAlign and deformable sampling outside PyTorch: exported once for any number of boxes or queries, run elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fledge.geometry import deformable_sample, rotated_roi_align, rotated_sampling_locations

SHAPES = ((6, 8), (3, 4), (1, 2))
COUNT = torch.export.Dim("count", min=2, max=30_000)
Inputs = tuple[Tensor, ...]
pytestmark = pytest.mark.slow


class Align(torch.nn.Module):
    def forward(self, features: Tensor, boxes: Tensor) -> Tensor:
        return rotated_roi_align(features, boxes, (3, 2), 0.25)


class Attend(torch.nn.Module):
    """Rotated references, then sampling."""

    def forward(self, values: Tensor, boxes: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
        locations = rotated_sampling_locations(boxes, offsets, (30, 40))
        return deformable_sample(values, locations, weights, SHAPES)


def regions(count: int, seed: int) -> Inputs:
    """Two maps, and boxes inside, across and beyond them, in any order of their images."""
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(count, 5, generator=generator) * torch.tensor([56, 56, 19, 11, 6.3])
    image = torch.randint(0, 2, (count, 1), generator=generator)
    return torch.randn(2, 3, 12, 10, generator=generator), torch.cat([image, boxes - 8 * (image + 0.4)], dim=1)


def attention(count: int, seed: int) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    sizes = (2, count, 2, len(SHAPES), 4)
    boxes = torch.rand(2, count, 5, generator=generator) * torch.tensor([40, 30, 20, 10, 6.3])
    values = torch.randn(2, sum(h * w for h, w in SHAPES), 2, 3, generator=generator)
    return values, boxes, torch.randn(*sizes, 2, generator=generator), torch.randn(sizes, generator=generator)


CASES: dict[str, tuple[torch.nn.Module, Callable[[int, int], Inputs], tuple[dict[int, torch.export.Dim] | None, ...]]]
CASES = {
    "rotated_roi_align": (Align().eval(), regions, (None, {0: COUNT})),
    "deformable_sample": (Attend().eval(), attention, (None, {1: COUNT}, {1: COUNT}, {1: COUNT})),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def exported(case: str) -> torch.export.ExportedProgram:
    module, inputs, dynamic = CASES[case]
    return torch.export.export(module, inputs(4, 0), dynamic_shapes=dynamic)


@pytest.fixture(scope="module")
def onnx_model(case: str, exported: torch.export.ExportedProgram) -> bytes:
    pytest.importorskip("onnxscript")
    module, inputs, dynamic = CASES[case]
    program = torch.onnx.export(module, inputs(4, 0), dynamo=True, dynamic_shapes=dynamic, verbose=False)
    assert program is not None
    model: bytes = program.model_proto.SerializeToString()
    return model


def check(case: str, run: Callable[[Inputs], Tensor]) -> None:
    """Against eager PyTorch on other inputs and other numbers of them than those of the export."""
    module, inputs, _ = CASES[case]
    for count, seed in ((4, 1), (9, 2), (2, 3), (500, 4)):
        given = inputs(count, seed)
        torch.testing.assert_close(run(given), module(*given), rtol=0, atol=1e-4)


def test_export_is_plain_tensor_code(case: str, exported: torch.export.ExportedProgram) -> None:
    """Neither an operator of ours nor embedding_bag, which other runtimes lack."""
    names = [str(node.target) for node in exported.graph.nodes]
    assert not [name for name in names if "fledge" in name or "embedding_bag" in name]
    check(case, lambda given: exported.module()(*given))


@pytest.mark.filterwarnings("ignore:# The axis name")
def test_onnxruntime(case: str, onnx_model: bytes) -> None:
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(onnx_model)
    names = [given.name for given in session.get_inputs()]

    def run(given: Inputs) -> Tensor:
        (found,) = session.run(None, dict(zip(names, (t.numpy() for t in given), strict=True)))
        return torch.from_numpy(found)

    check(case, run)


@pytest.mark.filterwarnings("ignore:# The axis name")
def test_openvino(case: str, onnx_model: bytes) -> None:
    openvino = pytest.importorskip("openvino")
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(onnx_model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    check(case, lambda given: torch.from_numpy(compiled([t.numpy() for t in given])[0].copy()))


def test_openvino_without_onnx(case: str, exported: torch.export.ExportedProgram) -> None:
    openvino = pytest.importorskip("openvino")
    compiled = openvino.compile_model(openvino.convert_model(exported), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    check(case, lambda given: torch.from_numpy(compiled([t.numpy() for t in given])[0].copy()))
