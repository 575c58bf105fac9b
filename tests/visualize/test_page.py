from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from fledge.errors import ResourceError
from fledge.visualize.charts import Series, line_chart
from fledge.visualize.images import data_uri
from fledge.visualize.markup import escape, inline, number, shorten, text_width
from fledge.visualize.page import GalleryRow, Page, Stat
from fledge.visualize.table import Column, Spread, Value, table

VOID = {"meta", "link", "img", "br", "hr"}
BAD = '<script>alert("1")</script><img src=x onerror=y>\'&'


class Outline(HTMLParser):
    """Fails on tags that do not match; collects tags and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "poster", "data", "action")]
        self.handlers += [k for k, _ in attrs if k.startswith("on")]
        names = [k for k, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert tag in ("path", "rect", "circle"), tag

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> without start"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def outline(page: str) -> Outline:
    parser = Outline()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def test_the_sample_is_well_formed_and_self_contained(sample_page: Page) -> None:
    page = sample_page.html()
    parsed = outline(page)
    assert all(address.startswith("data:") for address in parsed.addresses)
    assert parsed.handlers == []
    assert "url(" not in page
    assert "@import" not in page
    outside = re.findall(r"https?://[^\s\"<]*", page)
    assert set(outside) <= {"http://www.w3.org/2000/svg"}
    assert parsed.tags.count("h1") == 1
    assert '<html lang="en">' in page
    assert 'name="viewport"' in page


def test_the_policy_allows_exactly_the_page_s_own_script(sample_page: Page) -> None:
    page = sample_page.html()
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    assert "default-src 'none'" in page


def test_every_string_is_escaped() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    page = Page(BAD, BAD)
    page.heading(BAD)
    page.paragraph(f"**{BAD}** `{BAD}`")
    page.note(BAD)
    page.stats([Stat(BAD, BAD, BAD)])
    page.table([Column(BAD), Column(BAD)], [[BAD, BAD]], caption=BAD)
    page.figure(line_chart([Series(BAD, [0], [1], "student")], BAD, BAD, BAD), BAD)
    page.class_key([BAD])
    page.picture(image, BAD)
    page.gallery([BAD], [GalleryRow([image], BAD)])
    page.code(BAD)
    with page.details(BAD):
        page.paragraph(BAD)
    page.footer({BAD: BAD})
    parsed = outline(page.html())
    assert parsed.tags.count("script") == 1
    assert parsed.tags.count("img") == 3  # two pictures and the empty one of the dialog
    assert parsed.handlers == []
    assert "".join(parsed.text).count('alert("1")') >= 20


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("a **b** `c` d", "a <strong>b</strong> <code>c</code> d"),
        ("`**not bold**`", "<code>**not bold**</code>"),
        ("2 ** 3 and `open", "2 ** 3 and `open"),
        ("**a < b**", "<strong>a &lt; b</strong>"),
        ("", ""),
    ],
)
def test_inline_marks(text: str, marked: str) -> None:
    assert inline(text) == marked


def test_characters_that_have_no_place_are_replaced() -> None:
    assert escape("a\x00b\x1bc\u202ed") == "a\ufffdb\ufffdc\ufffdd"
    assert escape("scene_\udcff.png").encode("utf-8") == b"scene_?.png"
    assert escape("tab\tand\r\nline") == "tab\tand\nline"


def test_numbers_read_well() -> None:
    assert number(-1.25, ".2f") == "−1.25"
    assert number(-0.04) == "0.0"
    assert [number(v) for v in (None, float("nan"), float("inf"))] == ["n/a"] * 3


def test_shortened_names_fit_and_keep_both_ends() -> None:
    short = shorten("large-vehicle-of-the-second-kind", 12, 100)
    assert text_width(short, 12) <= 100
    assert short.startswith("large")
    assert short.endswith("kind")
    assert shorten("ship", 12, 100) == "ship"


def cells(markup: str) -> list[tuple[str, str]]:
    return re.findall(r'<td(?: class="(\w+)")?>(.*?)</td>', markup)


def test_the_best_of_the_compared_rows_is_marked() -> None:
    columns = [Column("run"), Column("AP", best="high"), Column("ms", best="low"), Column("M")]
    rows: list[list[Value]] = [["teacher", 80.0, 9.0, 1.0], ["alone", 60.0, 3.0, 2.0], ["distilled", 61.0, 2.99, 3.0]]
    marked = cells(table(columns, rows, compare=(1, 2)))
    assert [kind for kind, _ in marked] == [
        "",
        "",
        "",
        "",
        "best",
        "",
        "best",
        "best",
        "",
    ]  # 3.0 and 2.99 read the same
    marked = cells(table(columns, rows))
    assert [kind for kind, _ in marked][:2] == ["best", ""]


def test_spreads_missing_values_and_lone_values() -> None:
    columns = [Column("run"), Column("AP", ".2f", best="high")]
    rows: list[list[Value]] = [["a", Spread(61.234, 0.4)], ["b", float("nan")], ["c", None]]
    markup = table(columns, rows)
    assert "61.23" in markup
    assert "± 0.40" in markup
    assert markup.count("n/a") == 2
    assert "best" not in markup
    outline(table(columns, []))


def test_a_row_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="argument"):
        table([Column("a"), Column("b")], [["x", 1.0], ["y"]])
    with pytest.raises(ValueError, match="argument"):
        Page("t").gallery(["a", "b"], [GalleryRow([None])])


def test_an_empty_place_in_a_gallery() -> None:
    page = Page("t")
    page.gallery(["a", "b"], [GalleryRow([None, np.zeros((4, 4, 3), np.uint8)])])
    assert outline(page.html()).tags.count("img") == 2


@pytest.mark.parametrize("format", ["webp", "jpeg", "png"])
def test_pictures_keep_size_and_channel_order(format: str) -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    image[..., 0] = 200  # red
    uri = data_uri(image, format)  # type: ignore[arg-type]
    head, body = uri.split(",")
    assert head == f"data:image/{format};base64"
    decoded = np.asarray(cv2.imdecode(np.frombuffer(base64.b64decode(body), np.uint8), cv2.IMREAD_COLOR_RGB))
    assert np.abs(decoded.astype(int) - image).max() <= 8
    if format == "png":
        assert (decoded == image).all()


def test_a_picture_that_cannot_be_encoded_is_named() -> None:
    with pytest.raises(ResourceError, match="cannot encode"):
        data_uri(np.zeros((2, 16_400, 3), np.uint8))
    with pytest.raises(ResourceError, match="cannot encode"):
        data_uri(np.zeros((0, 4, 3), np.uint8))


def test_writing_is_atomic_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page("first")
    target = page.write(tmp_path / "report.html")
    assert "first" in target.read_text(encoding="utf-8")

    def fail(self: Page) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Page, "html", fail)
    with pytest.raises(ResourceError, match="No space left"):
        Page("second").write(target)
    assert "first" in target.read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="cannot write page"):
        Page("t").write(tmp_path / "missing" / "report.html")
