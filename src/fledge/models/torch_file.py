"""Reads the tensors of a PyTorch file in a process of its own: ``python -m fledge.models.torch_file FILE OUT``.

The file comes from a stranger. PyTorch's weights-only reader runs no code in it, and there is no other reader to fall
back on; should it fail nevertheless, it fails in a process that holds nothing. Writes safetensors to ``OUT``; what was
refused is the last line on standard error.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

WRAPPERS = ("state_dict", "model_state_dict", "model", "model_state", "net", "weights")


def read(path: str) -> dict[str, Tensor]:
    """The named tensors of a file, out of the dictionaries that training programs put around them.

    Raises:
        ValueError: the file holds something other than tensors and plain values, or no named tensors.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many classes, and with the advice to read the file unsafely
        raise ValueError(_why(str(error))) from None
    tensors = {str(k): v for k, v in _unwrapped(content).items() if isinstance(v, Tensor) and v.layout == torch.strided}
    if not tensors:
        raise ValueError("it holds no named tensors")
    return {k: v.detach().clone().contiguous() for k, v in tensors.items()}


def _unwrapped(content: Any) -> Mapping[Any, Any]:
    """The innermost table of names, at most four deep."""
    for _ in range(4):
        inner = [content[k] for k in WRAPPERS if isinstance(content, Mapping) and isinstance(content.get(k), Mapping)]
        content = inner[0] if inner else content
    return content if isinstance(content, Mapping) else {}


def _why(message: str) -> str:
    """PyTorch's refusal in a few words."""
    if called := re.search(r"GLOBAL ([\w.]+)", message):
        return f"it wants to call {called[1]}"
    return "it is damaged, or holds more than tensors: " + (message.splitlines() or ["unreadable"])[0].split(". ")[0]


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    try:
        save_file(read(sys.argv[1]), sys.argv[2])
    except Exception as error:
        print((str(error).splitlines() or [type(error).__name__])[0], file=sys.stderr)
        sys.exit(1)
