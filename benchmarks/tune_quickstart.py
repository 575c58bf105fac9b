"""Choose the quickstart's learning rate: the student alone, on scenes that no quickstart shows.

    python benchmarks/tune_quickstart.py --out runs/tuning --jobs 2

Scenes, weights and order come from a seed of their own (1000), so nothing that a default quickstart reports is tuned
on what it reports. Every rate gets the same budget. The table goes to stdout and to ``tuning.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SEED = 1000
EPOCHS = 8
RATES = (0.0005, 0.001, 0.002, 0.004, 0.008)


def one(out: Path, rate: float) -> None:
    """Train and evaluate the student alone at one rate, in this process."""
    from fledge import api
    from fledge.evaluation.summary import evaluation_record
    from fledge.quickstart.plan import plan_synthetic

    plan = plan_synthetic(out, "standard", SEED, EPOCHS, "cpu")
    run = out / f"lr-{rate:g}"
    api.train(plan.student.model_copy(update={"lr": rate}), run, title=f"lr {rate:g}")
    result = api.evaluate(run, title=f"evaluate lr {rate:g}")
    (run / "evaluation.json").write_text(json.dumps(evaluation_record(result.metrics, result.cost, result.about)))


def main() -> None:
    """Render the scenes, run every rate in a process of its own, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/tuning"))
    parser.add_argument("--jobs", type=int, default=1, help="processes at once, one thread each")
    parser.add_argument("--rate", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rate is not None:
        one(options.out, options.rate)
        return

    from fledge.data.synthetic import write_dataset
    from fledge.quickstart.plan import SIZES

    size = SIZES["standard"]
    for split, count in (("train", size.train), ("test", size.test)):
        write_dataset(options.out / "data", split, count, size.image_size, SEED)

    def start(rate: float) -> None:
        command = [sys.executable, __file__, "--out", str(options.out), "--rate", str(rate)]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(start, RATES))
    table = {f"{r:g}": json.loads((options.out / f"lr-{r:g}" / "evaluation.json").read_text()) for r in RATES}
    (options.out / "tuning.json").write_text(json.dumps(table, indent=1))
    for rate, record in table.items():
        print(f"lr {rate:>7}  AP50 {100 * record['AP50']:5.1f}  AP75 {100 * record['AP75']:5.1f}")
    best = max(table, key=lambda rate: table[rate]["AP50"])
    inside = best not in (f"{RATES[0]:g}", f"{RATES[-1]:g}")
    print(f"best: {best}" + ("" if inside else " (at the edge of the grid: widen it)"))


if __name__ == "__main__":
    main()
