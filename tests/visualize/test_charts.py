from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fledge.visualize.axes import WIDTH, linear_axis, log_axis
from fledge.visualize.charts import BarSeries, Series, bar_chart, line_chart, paired_chart
from fledge.visualize.markup import Markup
from fledge.visualize.style import standalone

SVG = "{http://www.w3.org/2000/svg}"
NAN, INF = math.nan, math.inf


def parse(chart: Markup) -> ElementTree.Element:
    root = ElementTree.fromstring(chart)
    assert root.attrib["role"] == "img"
    assert root[0].tag == f"{SVG}title"
    assert "nan" not in chart
    assert "inf" not in re.sub("<text.*?</text>", "", chart)
    return root


def found(root: ElementTree.Element, tag: str, kind: str) -> list[ElementTree.Element]:
    return [e for e in root.iter(SVG + tag) if kind in e.get("class", "").split()]


def points(path: ElementTree.Element) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"([-\d.]+) ([-\d.]+)", path.attrib["d"])]


def texts(root: ElementTree.Element) -> list[str]:
    return ["".join(e.itertext()) for e in root.iter(f"{SVG}text")]


def test_a_line_is_where_its_values_are() -> None:
    root = parse(line_chart([Series("a", [0, 5, 10], [0, 50, 100], "student")], "x", "y", "t"))
    (path,) = found(root, "path", "line")[1:]  # the first is the legend's
    (x0, y0), (x1, y1), (x2, y2) = points(path)
    assert x1 == pytest.approx((x0 + x2) / 2, abs=0.1)
    assert y1 == pytest.approx((y0 + y2) / 2, abs=0.1)
    assert x0 < x2
    assert y0 > y2  # larger values lie higher
    heights = {p[0][1] for p in map(points, found(root, "path", "grid"))}
    assert {y0, y2} <= heights  # 0 and 100 are ticks


def test_gaps_break_the_line_and_a_lone_point_is_marked() -> None:
    ys = [1.0, 2.0, NAN, 3.0, INF, 4.0, 5.0]
    root = parse(line_chart([Series("a", range(7), ys, "teacher")], "x", "y", "t"))
    assert [len(points(p)) for p in found(root, "path", "line")[1:]] == [2, 2]
    assert len(found(root, "circle", "dot")) == 5


def test_a_log_axis_leaves_out_what_is_not_positive() -> None:
    ys = [100.0, 10.0, 0.0, -1.0, 1.0, 0.1]
    root = parse(line_chart([Series("a", range(6), ys, "teacher")], "x", "y", "t", log_y=True))
    lines = [points(p) for p in found(root, "path", "line")[1:]]
    assert [len(p) for p in lines] == [2, 2]
    drops = [p[1][1] - p[0][1] for p in lines]
    assert drops[0] == pytest.approx(drops[1], abs=0.2)  # a decade is a decade


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    "series",
    [
        [],
        [Series("a", [], [], "student")],
        [Series("a", [1, 2], [NAN, NAN], "student")],
    ],
)
def test_nothing_to_draw_says_so(series: list[Series], log: bool) -> None:
    assert "no data" in texts(parse(line_chart(series, "x", "y", "t", log_y=log)))


@pytest.mark.parametrize("value", [0.0, -3.0, 1e-9, 7e11, 0.3])
def test_a_single_point_has_an_axis_around_it(value: float) -> None:
    root = parse(line_chart([Series("a", [4], [value], "student")], "x", "y", "t"))
    assert len(found(root, "circle", "dot")) == 1
    assert len(set(texts(root))) >= 4


def test_long_runs_stay_small_but_keep_their_extremes() -> None:
    ys = [1.0] * 20_000
    ys[7_777] = 9.0
    chart = line_chart([Series("a", range(20_000), ys, "student")], "x", "y", "t")
    assert len(chart) < 40_000
    drawn = points(found(parse(chart), "path", "line")[1])
    plain = line_chart([Series("a", [0, 1], [1.0, 9.0], "student")], "x", "y", "t")
    assert min(y for _, y in drawn) == min(y for _, y in points(found(parse(plain), "path", "line")[1]))


def test_the_legend_wraps_above_the_plot() -> None:
    series = [Series(f"a rather long name {i}", [0, 1], [0, 1], "student") for i in range(9)]
    root = parse(line_chart(series, "x", "y", "t"))
    places = [re.findall(r"[\d.]+", g.attrib["transform"]) for g in root.iter(f"{SVG}g") if "transform" in g.attrib]
    rows = [float(y) for _, y in places]
    top = min(y for p in map(points, found(root, "path", "grid")) for _, y in p)
    assert len(set(rows)) > 1
    assert max(rows) + 18 < top


def test_bars_are_proportional_and_missing_ones_read_so() -> None:
    series = [BarSeries("a", [10.0, 40.0, NAN, 0.0], "teacher")]
    root = parse(bar_chart(["p", "q", "r", "s"], series, "AP", "t"))
    widths = [float(b.attrib["width"]) for b in found(root, "rect", "bar")[1:]]
    assert widths[1] == pytest.approx(4 * widths[0], rel=0.01)
    assert widths[2] == 0
    assert len(widths) == 3
    assert texts(root).count("n/a") == 1


def test_negative_bars_go_left_of_zero() -> None:
    root = parse(bar_chart(["p", "q"], [BarSeries("a", [-2.0, 3.0], "extra1")], "difference", "t"))
    minus, plus = found(root, "rect", "bar")[1:]
    assert float(minus.attrib["x"]) + float(minus.attrib["width"]) == pytest.approx(float(plus.attrib["x"]), abs=0.11)
    assert "−2.0" in texts(root)


def test_error_bars_pass_neither_the_plot_nor_below_zero_without_need() -> None:
    series = [BarSeries("a", [50.0, 0.1], "student", [4.0, 0.2]), BarSeries("b", [60.0, 1.0], "distilled", [NAN, 0.0])]
    root = parse(bar_chart(["p", "q"], series, "AP", "t"))
    bars = found(root, "path", "error")
    assert len(bars) == 2
    assert not any(t.startswith("−") for t in texts(root))
    tall, zero = points(bars[0]), points(bars[1])
    rect = found(root, "rect", "bar")[2]
    end = float(rect.attrib["x"]) + float(rect.attrib["width"])
    assert (tall[0][0] + tall[1][0]) / 2 == pytest.approx(end, abs=0.15)
    assert zero[0][0] >= float(rect.attrib["x"]) - 0.1


def test_many_classes_with_long_names_do_not_collide() -> None:
    names = [f"an extraordinarily long class name, number {i}" for i in range(25)]
    series = [BarSeries(s, [float(i) for i in range(25)], "student") for s in "abc"]
    root = parse(bar_chart(names, series, "AP", "t"))
    rows = [e for e in root.iter(f"{SVG}text") if "…" in "".join(e.itertext())]
    heights = [float(e.attrib["y"]) for e in rows]
    assert len(rows) == 25
    assert min(b - a for a, b in pairwise(heights)) > 14
    assert len({"".join(e.itertext()) for e in rows}) == 25
    assert [e.findtext(f"{SVG}title") for e in rows] == names


@pytest.mark.parametrize("groups", [[], ["p"]])
def test_empty_bars(groups: list[str]) -> None:
    parse(bar_chart(groups, [], "AP", "t"))
    parse(bar_chart(groups, [BarSeries("a", [NAN] * len(groups), "student")], "AP", "t"))


def test_pairs_are_joined_seed_by_seed() -> None:
    series = [BarSeries("a", [1.0, 2.0, NAN], "student"), BarSeries("b", [3.0, 5.0, 6.0], "distilled")]
    root = parse(paired_chart(["s0", "s1", "s2"], series, "AP", "t"))
    assert [len(points(p)) for p in found(root, "path", "pair")] == [2, 2, 1]
    assert len(found(root, "circle", "dot")) == 5
    low, high = (points(p)[0][1] for p in found(root, "path", "mean"))
    assert low > high
    assert {"1.5", "4.7"} <= set(texts(root))


def test_pairs_without_values() -> None:
    assert "n/a" in texts(parse(paired_chart(["s"], [BarSeries("a", [NAN], "student")], "AP", "t")))
    parse(paired_chart([], [], "AP", "t"))


@given(st.lists(st.floats(-1e9, 1e9, allow_subnormal=False), min_size=1, max_size=8))
def test_linear_axes_hold_their_values_and_ticks(values: list[float]) -> None:
    axis = linear_axis(values, 100.0, 20.0)
    slack = 1e-6 * (axis.high - axis.low)
    assert axis.low - slack <= min(values) <= max(values) <= axis.high + slack
    assert 2 <= len(axis.ticks) <= 12
    assert all(20 - 1e-3 <= axis(t) <= 100 + 1e-3 for t in axis.ticks)
    assert len(set(axis.labels())) == len(axis.ticks) or max(map(abs, values)) > 1e5


@given(st.lists(st.floats(1e-12, 1e12), min_size=1, max_size=8))
def test_log_axes_hold_their_values_and_ticks(values: list[float]) -> None:
    axis = log_axis(values, 100.0, 20.0)
    assert axis.low <= min(values) * (1 + 1e-6)
    assert max(values) <= axis.high * (1 + 1e-6)
    assert len(axis.ticks) <= 12
    assert all(20 - 1e-3 <= axis(t) <= 100 + 1e-3 for t in axis.ticks)


def test_tick_labels_read_well() -> None:
    assert linear_axis([0, 1], 0, 1).labels() == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert linear_axis([-3, 7], 0, 1).labels() == ["−4", "−2", "0", "2", "4", "6", "8"]
    assert linear_axis([0, 20_000], 0, 1).labels()[-1] == "20\u202f000"
    assert log_axis([1e-6, 1e-1], 0, 1).labels() == ["10⁻⁶", "10⁻⁵", "10⁻⁴", "0.001", "0.01", "0.1"]


def test_hostile_names_are_text() -> None:
    bad = '<script>alert(1)</script>"&\x00'
    for chart in (
        line_chart([Series(bad, [0], [1], "student")], bad, bad, bad),
        bar_chart([bad], [BarSeries(bad, [1.0], "student")], bad, bad),
        paired_chart([bad], [BarSeries(bad, [1.0], "student")], bad, bad),
    ):
        parse(chart)
        assert "<script" not in chart


def test_a_chart_stands_alone_with_its_style() -> None:
    root = ElementTree.fromstring(standalone(line_chart([Series("a", [0, 1], [0, 1], "student")], "x", "y", "t")))
    (style,) = root.iter(f"{SVG}style")
    assert "--student" in (style.text or "")
    assert float(root.attrib["viewBox"].split()[2]) == WIDTH
