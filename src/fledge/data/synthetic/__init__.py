"""Synthetic aerial scenes for the quickstart and the tests: see ``scene``."""

from fledge.data.synthetic.objects import CLASSES
from fledge.data.synthetic.scene import LAYOUTS, Scene, render_scene, render_showpiece
from fledge.data.synthetic.writer import write_dataset

__all__ = ["CLASSES", "LAYOUTS", "Scene", "render_scene", "render_showpiece", "write_dataset"]
