"""Where windows stand along one axis, for cutting tiles and for detection alike."""

from __future__ import annotations


def window_starts(length: int, size: int, overlap: int) -> list[int]:
    """The first pixels of the windows that cover an axis of ``length`` pixels, in order.

    Neighbours overlap by at least ``overlap``, which is less than ``size``; the last window is moved back to end at the
    border. A length of up to ``size`` is one window.
    """
    if length <= size:
        return [0]
    return [*range(0, length - size, size - overlap), length - size]
