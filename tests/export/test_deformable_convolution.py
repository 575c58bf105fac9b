"""Deformable convolutions on the way from PyTorch to OpenVINO."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d


class Deformed(nn.Module):
    """One modulated deformable convolution whose offsets and mask come from the image."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.offset, self.mask = nn.Conv2d(3, 18, 3, padding=1), nn.Conv2d(3, 9, 3, padding=1)
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        offset, mask = 3 * self.offset(images), self.mask(images).sigmoid()
        found: Tensor = deform_conv2d(images, offset, self.conv.weight, self.conv.bias, padding=1, mask=mask)
        return found


def test_openvino_takes_one_from_torch_export() -> None:
    """Exactly, as an operator of its own; OpenVINO's reader of ONNX has none for DeformConv-19."""
    openvino = pytest.importorskip("openvino")
    module, images = Deformed().eval(), torch.rand(2, 3, 17, 23, generator=torch.Generator().manual_seed(1))
    model = openvino.convert_model(torch.export.export(module, (images,)))
    assert "DeformableConvolution" in {node.get_type_name() for node in model.get_ops()}
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    with torch.no_grad():
        expected = module(images).numpy()
    plain = nn.functional.conv2d(images, module.conv.weight, module.conv.bias, padding=1).detach().numpy()
    assert np.abs(expected - plain).max() > 0.1, "the offsets matter"
    np.testing.assert_allclose(compiled([images.numpy()])[0], expected, atol=2e-5, rtol=0)
