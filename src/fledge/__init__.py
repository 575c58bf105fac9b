"""fledge raises small detectors from big ones.

    import fledge
    detections = fledge.load("runs/student").detect("scene.png")

``load`` is here; the functions behind the commands are in ``fledge.api`` and ``fledge.quickstart``. Everything is
imported on first use, so that ``import fledge`` is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fledge.api import load as load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    if name == "load":
        from fledge.api import load

        return load
    raise AttributeError(f"module 'fledge' has no attribute {name!r}")
