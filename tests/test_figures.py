"""Words on figures: drawn as they are, without formulas, warnings or failures."""

import io
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from imagecot.figures import literal, wrapped


def draw(text: str) -> None:
    figure = Figure(figsize=(2, 1))
    figure.text(0, 0.5, text)
    figure.savefig(io.BytesIO(), format="png", dpi=20)


@pytest.mark.parametrize(
    "text",
    ["a $\\frac$ apple", "$", "$$", "\\$x$", "$x$ and \\$y\\$", "\ud800 x", "\x1b[31m\0\x07", "中文 🙂", "a\tb\r\nc"],
)
def test_any_text_is_drawn_without_a_warning(text):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(literal(text))
        draw(wrapped(text * 9, 4, 5))


def test_what_is_shown():
    assert literal("5 $ or 6 $") == r"5 \$ or 6 \$"
    assert literal("a\x1bb\ud800c") == "a\\x1bb\\ud800c"
    assert literal("中 a") == "□ a"
    assert wrapped("one two three four", 9, 2) == "one two\nthree …"
    assert wrapped("a" * 40, 10, 2).count("\n") == 1
    assert wrapped("aaa$$$", 4, 2) == "aaa\\$\n\\$\\$"


@settings(max_examples=40, deadline=None)
@given(st.text(st.sampled_from("$\\{}^_ab \n\ud800\x00\u2028中é"), max_size=40))
def test_every_text_is_drawn(text):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(literal(text))
        draw(wrapped(text, 5, 3))
