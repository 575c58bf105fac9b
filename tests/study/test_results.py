from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fledge.study.results import arm_of, choose, differences, entry, foreseen, measured, paired, verdict
from fledge.study.spec import Arm, Study, load_study
from fledge.study.statistics import compare

from .made import record, write_study

SEEDS = range(100, 108)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    spec = load_study(write_study(tmp_path, "min_objects = 50")).study
    return spec.model_copy(update={"seeds": tuple(SEEDS)})


def arms(none: Sequence[float | None], kd: Sequence[float | None]) -> dict[str, Any]:
    rows = {"none": none, "kd": kd}
    return {
        name: arm_of([record(name, s, v) for s, v in zip(SEEDS, values, strict=False)], ("AP50", "AP75"), 50)
        for name, values in rows.items()
    }


def test_means_are_over_classes_with_enough_objects() -> None:
    assert measured(record("a", 1, 0.4), "AP50", 50) == pytest.approx(40)
    assert measured(record("a", 1, 0.4), "AP50") == pytest.approx(20)
    assert math.isnan(measured(record("a", 1, 0.4), "AP50", 1000))
    assert math.isnan(measured(record("a", 1, None), "AP50"))


def test_tuning_takes_the_best_mean_and_sees_edges(study: Study) -> None:
    rows = [record("a", s, ap, point={"lr": lr}) for lr, ap in ((0.1, 0.2), (0.2, 0.5), (0.4, 0.3)) for s in (0, 1)]
    tuned = choose(rows, study)
    assert (tuned.point, tuned.edges) == ({"lr": 0.2}, ())
    assert tuned.score == pytest.approx(50)
    assert choose(rows[:4], study).edges == ("lr",)
    failed = [*rows, record("a", 0, None, point={"lr": 0.8}), record("a", 1, 0.99, point={"lr": 0.8})]
    assert choose(failed, study).point == {"lr": 0.2}


def test_a_failed_run_leaves_its_pair_and_is_told(study: Study) -> None:
    made = arms([0.1, 0.2, 0.3], [0.2, None, 0.5])
    result = paired(made["kd"], made["none"], "AP50")
    assert result is not None
    assert result.n == 2
    assert result.mean == pytest.approx(15)
    assert made["kd"].failures == ("report kd, seed 101: exit code 1: no reason",)
    assert made["kd"].summary("AP50").n == 2
    single = arms([0.1], [0.2])
    assert paired(single["kd"], single["none"], "AP50") is None


def test_differences(study: Study) -> None:
    none = [0.30, 0.31, 0.32, 0.33, 0.34, 0.35, 0.36, 0.37]
    made = arms(none, [v + 0.05 + 0.002 * k for k, v in enumerate(none)])
    made["shuffled"] = made["none"]
    rows = differences(made, study.model_copy(update={"arms": {**study.arms, "shuffled": Arm()}}))
    assert [(d.arm, d.measure, d.declared) for d in rows] == [
        ("kd", "AP50", True),
        ("kd", "AP75", True),
        ("shuffled", "AP50", False),
    ]
    assert rows[0].result == compare(
        list(made["kd"].scores["AP50"].values()), list(made["none"].scores["AP50"].values())
    )
    assert rows[0].adjusted == pytest.approx(2 / 256)
    assert math.isnan(rows[1].adjusted)
    assert "kd raised AP50 over none: +5.7 AP50" in verdict(rows[0], None)
    assert "Nothing is claimed: the teacher is weak" in verdict(rows[0], "the teacher is weak")


def test_no_difference_is_said_so(study: Study) -> None:
    made = arms([0.30, 0.31, 0.32, 0.33], [0.31, 0.30, 0.33, 0.32])
    sentence = verdict(differences(made, study)[0], None)
    assert sentence.startswith("No difference between kd and none was found: +0.0 AP50")
    made = arms([0.1], [0.2])
    assert "fewer than two common seeds" in verdict(differences(made, study)[0], None)


def test_holm_is_over_the_declared_comparisons(study: Study) -> None:
    none = [0.3 + 0.01 * k for k in range(8)]
    made = arms(none, [v + 0.05 for v in none])
    made["other"] = made["none"]
    both = study.model_copy(update={"comparisons": (("kd", "none"), ("other", "none"))})
    rows = {d.arm: d.adjusted for d in differences(made, both) if d.measure == "AP50"}
    assert rows["kd"] == pytest.approx(2 * 2 / 256)
    assert rows["other"] == 1


def test_what_is_known_before(study: Study) -> None:
    assert foreseen(study) == []
    six = study.model_copy(update={"seeds": tuple(range(100, 106))})
    assert foreseen(six) == []
    two = six.model_copy(update={"comparisons": (("kd", "none"), ("none", "kd"))})
    assert len(foreseen(two)) == 2
    assert "with 6 common seeds among 2 comparisons no result can reach 5 %" in foreseen(two)[0]


def test_entry_condition(study: Study) -> None:
    tuned = {"none": choose([record("none", 0, 0.4, point={"lr": 0.1})], study)}
    assert entry(43.1, tuned, study) is None
    assert "a lead of 2.9 where 3 were asked for" in str(entry(42.9, tuned, study))
    assert entry(None, tuned, study) is None
