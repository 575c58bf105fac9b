"""Writes docs/reliability.md: the promises, and every fault that a test of this folder plants (``make docs``)."""

from __future__ import annotations

import ast
from pathlib import Path

HERE = Path(__file__).parent
TEXT = """\
# Reliability

What fledge promises, what it does not, and the tests that hold it to that. The list of faults is written by `make docs`
from the tests in `tests/faults/`, one function a row, so it cannot promise more than is tested.

## Promised

1. **Never a silently wrong number.** Rotated IoU, NMS and box conversions are right for any finite input; what is not
   finite is refused or stays visible.
2. **Never a NaN into the weights.** A loss or gradient that is not finite stops the run before the optimiser's step,
   names the images, and leaves the last checkpoint good ([training](training.md#numbers-that-are-not-finite)).
3. **Killed at any instant**, a training goes on to bit-identical weights on the same machine and number of threads; at
   most the work since the last checkpoint is lost.
4. **Killed at any instant**, detection in a scene goes on from the last finished window and ends with the
   byte-identical file ([scenes](scenes.md#interrupted)).
5. **A flipped bit is found.** Every file of a checkpoint is hashed; a damaged one is refused, and an older one offered.
6. **Memory does not grow with the scene**: only windows are read, GDAL's cache is bounded. It does not grow with the
   square of the objects either, nor with anchors times objects: bounds are tested in child processes under a limit.
7. **No file can run code**: not a checkpoint, recipe, weights file, dataset or image ([security](../SECURITY.md)).
8. **Every bad input is named**, `file:line: what is wrong: what to do`, never dropped silently.
9. **A full disk, a missing right, a dead process or worker** ends in a clear message and an exit code within seconds;
   never a hang, never a half-written file under its final name.
10. **Same seed, same bits** on a CPU with the same number of threads, whatever the number of data workers.

Exit codes: 0 done, 1 a bug, 2 usage or recipe, 3 input data, 4 numbers that are not finite, 5 files and resources,
130 Ctrl-C, 143 SIGTERM.

## Not promised

- The same bits on another machine, number of threads or processes, PyTorch version, or on a GPU. A run that goes on
  under other conditions says "not bit-exact".
- Right pixels from an image file with flipped bits, if they still decode: most formats do not say.
- The same bits of a scene under another `--batch-size`, or where memory ran out and the batch was halved: a convolution
  may round differently. The boxes are the same but for the last digits.
- Objects longer than the overlap of windows: they may be found in parts.
- Safety from somebody who can write to the run folder while fledge uses it.
- Memory beyond what is stated: PNG, JPEG and BMP are decoded whole, up to 1 Gpx; the objects of a scene are held until
  they are merged (10^7 within 2 GiB, for which the merge is tested apart from the writing, which takes 50,000 at a
  time), and for formats with one file for all scenes, those of all scenes.

## Faults and what happens
"""


SECTIONS = {
    "numbers": "Numbers that are not finite",
    "checkpoints": "Checkpoints",
    "resume": "Resuming, repeating, odd data",
    "signals": "Signals and kills",
    "run_folder": "Run folders",
    "distributed": "Several processes",
    "labels": "Labels",
    "label_forms": "Labels, form by form",
    "results": "Result files",
    "images": "Images",
    "rasters": "Rasters and huge scenes",
    "scenes": "Detection in scenes",
    "windows": "Objects cut by windows",
    "duplicates": "Duplicate images",
    "geometry": "Rotated boxes",
    "losses": "Losses",
    "memory": "Memory",
    "weight_files": "Weights from strangers",
    "service": "The HTTP service",
    "hostile": "Files from strangers",
    "exports": "Exported files",
}


def page() -> str:
    """The text of docs/reliability.md."""
    files = {path.stem.removeprefix("test_"): path for path in HERE.glob("test_*.py")}
    assert files.keys() == SECTIONS.keys(), f"give each file a title: {files.keys() ^ SECTIONS.keys()}"
    parts = [TEXT]
    for name, title in SECTIONS.items():
        tree = ast.parse(files[name].read_text(encoding="utf-8"))
        tests = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
        rows = [row for row in map(_row, tests) if row]
        parts += [f"### {title}", "", "| Fault and what happens | Test |", "|---|---|", *rows, ""]
    return "\n".join(parts)


def _row(node: ast.FunctionDef) -> str:
    text = " ".join((ast.get_docstring(node) or "").split()).replace("|", "\\|")
    return f"| {text} | `{node.name}` |" if text else ""


if __name__ == "__main__":
    print(page(), end="")
