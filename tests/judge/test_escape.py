"""Foreign text in Markdown: whatever it holds, a Markdown reader shows it letter by letter and does nothing else."""

import html
import re
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from dermjudge.judge.escape import escape_markdown, visible

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
PIECES = r"""
| ` `` ``` * ** _ __ ~~ [ ]( ) ![ < > <b> <!-- &lt; &#33; \ # - + = 1. 2) @ @@ a.b http://x.y www.x.y mailto: $ ^ a é 7
! : { } ' " javascript:
"""
BLANKS = [
    " ", "    ", "\n", "\r\n", "\t", "\u2028", "\u202e", "\u200b", "\ufeff", "\ud800", "\U000e0041", "\x00", "\xa0",
]  # fmt: skip
NASTY = st.lists(st.sampled_from([*PIECES.split(), *BLANKS]), max_size=12).map("".join)
TEXT = st.one_of(NASTY, st.text(st.characters(), max_size=20))


def shown(fragment: str) -> str:
    """The text of an HTML fragment that may hold code spans, and no other element."""
    return html.unescape(re.sub(r"</?code>", "", fragment))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpt-4o", "gpt-4o"),
        ("my_model_7b", "my_model_7b"),
        ("derm6@1", "derm6@1"),
        ("a|b", r"a\|b"),
        ("![x](http://e.vil/p.png)", r"!\[x\](http\://e.vil/p.png)"),
        ("<script>alert(1)</script>", r"\<script\>alert(1)\</script\>"),
        ("# big", r"\# big"),
        ("1. item", r"1\. item"),
        ("3.5-turbo", "3.5-turbo"),
        ("---", r"\---"),
        ("a\nb", "a{U+000A}b"),
        ("a\u202eb\u200bc", "a{U+202E}b{U+200B}c"),
        ("\ud800", "{U+D800}"),
        ("who@e.vil", "who`@`e.vil"),
        ("who@www.e.vil", r"who`@`www\.e.vil"),
        ("C #", r"C \#"),
        ("", ""),
    ],
)
def test_golden(text: str, expected: str) -> None:
    assert escape_markdown(text) == expected


@given(TEXT)
def test_nothing_hidden_remains(text: str) -> None:
    result = visible(text)
    assert result.encode() and len(result.splitlines()) == 1 if text else result == ""
    assert not [c for c in result if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")]
    assert visible(result) == result


@given(st.text(st.characters(whitelist_categories=("L", "N", "P", "S")), max_size=30))
def test_what_can_be_seen_is_left_alone(text: str) -> None:
    assert "".join(c for c in text if c in visible(text)) == text or "{U+" in visible(text)
    assert visible("Ärzte 皮膚 μ≤5 (50 %)") == "Ärzte 皮膚 μ≤5 (50 %)"


@settings(max_examples=200)
@given(TEXT)
@example("`@`@`")
@example("\\|")
@example("a_b_ c_")
def test_a_reader_shows_a_paragraph_letter_by_letter(text: str) -> None:
    if not visible(text).strip(" "):
        return
    page = READER.render(escape_markdown(text))
    assert page.startswith("<p>")
    assert page.endswith("</p>\n")
    assert shown(page[3:-5]) == visible(text).strip(" ")


@settings(max_examples=200)
@given(TEXT)
@example("x|y\\")
def test_a_reader_shows_a_table_cell_letter_by_letter(text: str) -> None:
    page = READER.render(f"| one | two |\n| --- | --- |\n| {escape_markdown(text)} | 3.14 |\n")
    cells = re.findall(r"<td>(.*?)</td>", page, re.DOTALL)
    assert len(cells) == 2
    assert cells[1] == "3.14"
    assert shown(cells[0]) == visible(text).strip(" ")
    assert page.count("<t") == 9  # table, thead, tbody, two rows, four cells: no element came from the text
    assert not re.search(r"<(?!/?(?:table|thead|tbody|tr|th|td|code)>)", page)
