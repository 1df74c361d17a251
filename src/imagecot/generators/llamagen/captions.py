r"""Captions as LlamaGen's text encoder was given them: cleaned of what the crawled captions of its training had.

The patterns are those of DeepFloyd IF, by way of PixArt and LlamaGen. Where these call the libraries ftfy and
BeautifulSoup the same is done here by the standard library, but for one thing: text whose bytes were read in a wrong
encoding before it came here is not repaired.

Cleaning deletes words: "a 4x4 truck" becomes "a truck", and "R2D2" nothing.
"""

import html
import re
import unicodedata
from html.entities import html5
from html.parser import HTMLParser
from urllib.parse import unquote_plus

_URL = r"[a-zA-Z0-9.\-]+[.](?:com|co|ru|net|org|edu|gov|it)[\w/-]*\b\/?(?!@)"
_DASHES = (
    r"\u002D\u058A\u05BE\u1400\u1806\u2010-\u2015\u2E17\u2E1A\u2E3A\u2E3B\u2E40\u301C\u3030\u30A0\uFE31\uFE32\uFE58"
    r"\uFE63\uFF0D"
)
_FILES = "png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4"


def _compiled(*rules: tuple[str, str]) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(pattern), put) for pattern, put in rules)


_ADDRESSES = _compiled(
    (r"<person>", "person"),
    (rf"\b((?:https?:(?:\/{{1,3}}|[a-zA-Z0-9%])|{_URL}))", ""),
    (rf"\b((?:www:(?:\/{{1,3}}|[a-zA-Z0-9%])|{_URL}))", ""),
)
_SIGNS = _compiled(
    (r"@[\w\d]+\b", ""),  # names of users
    (r"[\u31c0-\u31ef\u31f0-\u31ff\u3200-\u32ff\u3300-\u33ff\u3400-\u4dbf\u4dc0-\u4dff\u4e00-\u9fff]+", ""),
    (rf"[{_DASHES}]+", "-"),
    (r"[`´«»“”¨]", '"'),
    (r"[‘’]", "'"),
    (r"&quot;?", ""),
    (r"&amp", ""),
    (r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", " "),  # addresses of computers
    (r"\d:\d\d\s+$", ""),  # numbers of articles, and other numbers
    (r"\\n", " "),
    (r"#\d{1,3}\b", ""),
    (r"#\d{5,}\b", ""),
    (r"\b\d{6,}\b", ""),
    (rf"[\S]+\.(?:{_FILES})", ""),
    (r"[\"\']{2,}", '"'),
    (r"[\.]{2,}", " "),
    (r"[#®•©™&@·º½¾¿¡§~)(\]\[}{|\\/*]+", " "),
    (r"\s+\.\s+", " "),
)
_JOINTS = re.compile(r"[-_]")
_CODES = _compiled(
    (r"\b[a-zA-Z]{1,3}\d{3,15}\b", ""),  # jc6640
    (r"\b[a-zA-Z]+\d+[a-zA-Z]+\b", ""),  # jc6640vc
    (r"\b\d+[a-zA-Z]+\d+\b", ""),  # 6640vc231
    (r"(worldwide\s+)?(free\s+)?shipping", ""),
    (r"(free\s)?download(\sfree)?", ""),
    (r"\bclick\b\s(?:for|on)\s\w+", ""),
    (rf"\b(?:{_FILES})(\simage[s]?)?", ""),
    (r"\bpage\s+\d+\b", ""),
    (r"\b\d*[a-zA-Z]+\d+[a-zA-Z]+\d+[a-zA-Z\d]*\b", " "),
    (r"\b\d+\.?\d*[xх×]\d+\.?\d*\b", ""),  # 4x4
    (r"\b\s+\:\s+", ": "),
    (r"(\D[,\./])\b", r"\1 "),
    (r"\s+", " "),
    (r"^[\"\']([\w\W]+)[\"\']$", r"\1"),
    (r"^[\'\_,\-\:;]", ""),
    (r"[\'\_,\-\:\-\+]$", ""),
    (r"^\.\S+$", ""),
)


def clean(caption: str) -> str:
    """Return the caption that the text encoder is given: the reference cleans each one twice."""
    return _once(_once(caption))


def _once(caption: str) -> str:
    caption = _replaced(unquote_plus(caption).strip().lower(), _ADDRESSES)
    caption = _replaced(_visible(caption), _SIGNS)
    if len(_JOINTS.findall(caption)) > 3:  # this-is-my-cute-cat
        caption = _JOINTS.sub(" ", caption)
    caption = html.unescape(html.unescape(_plain(caption))).strip()
    return _replaced(caption, _CODES).strip()


def _replaced(text: str, rules: tuple[tuple[re.Pattern[str], str], ...]) -> str:
    for pattern, put in rules:
        text = pattern.sub(put, text)
    return text


_VOID = frozenset(
    (
        *("area", "base", "br", "col", "embed", "hr", "img", "input", "keygen", "link", "menuitem", "meta", "param"),
        *("source", "track", "wbr", "basefont", "bgsound", "command", "frame", "image", "isindex", "nextid", "spacer"),
    )
)
_UNSEEN = frozenset(("rt", "rp", "script", "style", "template"))


class _Visible(HTMLParser):
    """Collects the text that a page shows."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.text: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        """A tag that closes itself holds nothing."""

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if not _UNSEEN.intersection(self.open):
            self.text.append(data)

    def handle_charref(self, name: str) -> None:
        self.handle_data(html.unescape(f"&#{name};"))

    def handle_entityref(self, name: str) -> None:
        self.handle_data(html5.get(f"{name};", f"&{name}"))

    def unknown_decl(self, data: str) -> None:
        if data.upper().startswith("CDATA["):
            self.handle_data(data[len("CDATA[") :])


def _visible(text: str) -> str:
    """The text without tags, and with its entities resolved."""
    reader = _Visible()
    reader.feed(text)
    reader.close()
    return "".join(reader.text)


def _width(code: int) -> str:
    return unicodedata.normalize("NFKC", chr(code))


_PLAIN: dict[int, str | None] = {
    **{code: _width(code) for code in range(0xFF01, 0xFFF0) if _width(code) != chr(code)},  # full and half width
    0x3000: " ",
    **dict.fromkeys((*range(0x09), 0x0B, *range(0x0E, 0x20), 0x7F, *range(0x206A, 0x2070), 0xFEFF), None),
    **dict.fromkeys(range(0xFFF9, 0xFFFD), None),
    **dict.fromkeys((0x02BC, *range(0x2018, 0x201C)), "'"),
    **dict.fromkeys(range(0x201C, 0x2020), '"'),
    **dict.fromkeys((0x0D, 0x85, 0x2028, 0x2029), "\n"),
    **{ord(one): _width(ord(one)) for one in "ĳǳǆǉǌﬀﬁﬂﬃﬄﬆ"},
    ord("ﬅ"): "ſt",
    ord("ŉ"): "'n",
    **dict.fromkeys(range(0xD800, 0xE000), "\ufffd"),
}
_TERMINAL = re.compile(r"\033\[((?:\d|;)*)([a-zA-Z])")


def _plain(text: str) -> str:
    """The text in ordinary signs: no ligatures, no curled quotes, nothing that controls a terminal."""
    return unicodedata.normalize("NFC", _TERMINAL.sub("", text).translate(_PLAIN))
