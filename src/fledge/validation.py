"""Average precision of a detector while it is trained, by the evaluator behind ``fledge evaluate``."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from fledge.distributed import as_on_first
from fledge.evaluation.average_precision import evaluate
from fledge.inference.predictor import Predictor
from fledge.inference.together import detect_together, own_share
from fledge.models.detectors.dense import DenseDetector
from fledge.recipe import Recipe
from fledge.runs import default_protocol, make_model, open_split


class Validation:
    """Evaluates weights on the recipe's ``eval_split``, in a detector of its own.

    The detector that learns is not touched: neither its mode nor its statistics, and no random number is drawn from
    what training draws from. Several processes share the images and get the same figures, those of one process.

    Args:
        detector: what learns; copied.
        recipe: of the run.
        classes: the K class names.
        pixel_scale: network pixels for each image pixel in training.
        device: where to compute.

    Raises:
        DataError: the split cannot be read, or has other classes.
    """

    def __init__(
        self,
        detector: DenseDetector,
        recipe: Recipe,
        classes: Sequence[str],
        pixel_scale: float,
        device: torch.device,
    ) -> None:
        self.predictor = Predictor(make_model(copy.deepcopy(detector), recipe, pixel_scale, device))
        self.score_threshold, self.protocol = recipe.score_threshold, default_protocol(recipe)
        data, names = recipe.eval_data or recipe.data, recipe.eval_list
        self.dataset = open_split(recipe, data, recipe.eval_split, classes, names=names)

    def __call__(self, weights: Mapping[str, Tensor], show: Callable[[str], None]) -> dict[str, float]:
        """``AP50``, ``AP75`` and ``AP50:95`` of some weights, in 0…1.

        Args:
            weights: a state dict of the detector; of the first process, if there are several.
            show: called with a line of text as images are done.
        """
        module, paths = self.predictor.model.module, self.dataset.paths
        count = len(own_share(paths))
        cuda = [self.predictor.model.device] if self.predictor.model.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            module.load_state_dict(weights)
            as_on_first(module.state_dict().values())
            found = detect_together(
                self.predictor, paths, self.score_threshold, lambda n: show(f"evaluate {n} of {count}")
            )
        truth = [self.dataset.targets(i) for i in range(len(self.dataset))]
        return evaluate(found, truth, self.predictor.classes, self.protocol).summary()
