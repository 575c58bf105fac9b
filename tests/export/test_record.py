from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fledge.errors import DataError, ResourceError
from fledge.export.record import check_seal, read_bytes, read_record, sealed

from .conftest import make_record

HERE = Path("model.onnx")


def test_there_and_back() -> None:
    record = make_record(bands=(4, 3, 2), pixel_range=(0.0, 3000.0), size=(96, 96))
    assert read_record(record.text(), HERE) == record
    assert record.pixels.channels == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": ["../../x"]}, {"classes": []}, {"classes": ["a", "a"]}, {"image_size": 0}, {"overlap": 96},
        {"pixel_scale": -1}, {"mean": [0.0]}, {"weights": "x"}, {"format": 2}, {"pixel_range": [1.0]}, {"nms_iou": "1"},
    ],
)  # fmt: skip
def test_records_that_fledge_does_not_write(changes: dict[str, Any]) -> None:
    import json

    text = json.dumps({**json.loads(make_record().text()), **changes})
    with pytest.raises(DataError, match=r"cannot read exported model: model\.onnx: .*export it again"):
        read_record(text, HERE)
    for rubbish in ("", "[]", "{", "x" * (1 << 21)):
        with pytest.raises(DataError):
            read_record(rubbish, HERE)


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=9), st.data())
def test_any_flipped_bit_breaks_the_seal(before: bytes, after: bytes, more: bytes, data: st.DataObject) -> None:
    whole = sealed(before + make_record().text().encode() + after, more)
    check_seal(HERE, whole, more)
    place = data.draw(st.integers(0, 8 * len(whole) - 1))
    broken = bytearray(whole)
    broken[place // 8] ^= 1 << place % 8
    with pytest.raises(DataError, match=r"damaged|did not write"):
        check_seal(HERE, bytes(broken), more)
    with pytest.raises(DataError):
        check_seal(HERE, whole[: place // 8], more)
    with pytest.raises(DataError):
        check_seal(HERE, whole, more + b"x")


def test_bounded_and_readable(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(11))
    with pytest.raises(DataError, match="11 bytes"):
        read_bytes(tmp_path / "big", 10)
    with pytest.raises(ResourceError, match="No such file"):
        read_bytes(tmp_path / "none")
