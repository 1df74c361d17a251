"""What a model's answer says of an image that is known to be wrong: reasons, or nothing that could be one."""

import re
from typing import Literal

from imagecot.contracts.reflection import without_answer
from imagecot.naming import printable
from imagecot.replies import Reply

Outcome = Literal["reasons", "refused", "cut", "agreed", "empty"]
LEFT_OUT: dict[Outcome, str] = {
    "refused": "refused",
    "cut": "cut off before their end",
    "agreed": "saying that nothing is wrong",
    "empty": "empty",
}
MOST_CHARACTERS = 2000  # two short sentences were asked for
_YES = re.compile(r"\W*yes\b", re.IGNORECASE)
_FINE = re.compile(
    r"\b(?:nothing|not anything)\b.{0,30}\b(?:wrong|missing|incorrect|amiss|off|to correct)\b"
    r"|\bno (?:visible |obvious |apparent )?(?:discrepanc|error|mistake|issue|problem|difference|fault|mismatch)"
    r"|\beverything (?:is|looks|seems|appears)\b"
    r"|\b(?:image|picture|it|this)\b.{0,40}\b(?:match|fulfil|satisf|correspond|show|depict|represent|reflect|meet)"
    r"\w* (?:exactly |all )?(?:what )?(?:is |was )?(?:to )?(?:the|your) (?:given )?(?:prompt|request|description)\b"
    r"|\b(?:accurately|correctly|fully|perfectly|exactly) (?:show|match|depict|represent|fulfil|reflect|follow)"
    r"|\b(?:image|picture|it|this|all) (?:is|are|looks|seems) (?:all )?(?:correct|accurate|right|fine|good|ok)\b",
    re.IGNORECASE,
)
_CONTRARY = re.compile(
    r"\bnot\b|n[’']t\b|\bfails?\b|\bbut\b|\bhowever\b|\bexcept\b|\balthough\b|\binstead\b|\bonly\b|\brather\b"
    r"|\b(?:is|are) (?:missing|wrong)\b|\bextra\b|\btoo (?:many|few|much)\b|\blacks?\b|\bthere (?:is|are) no\b"
    r"|\bno \w+ (?:is|are)\b",
    re.IGNORECASE,
)


def reasons_of(reply: Reply) -> tuple[Outcome, str]:
    """Return what an answer is, and the reasons in one line where it gives any."""
    if reply.refusal is not None:
        return "refused", ""
    if reply.is_cut or len(reply.text) > MOST_CHARACTERS:
        return "cut", ""
    text = " ".join(printable(without_answer(reply.text)).split())
    if _YES.match(reply.text) or _agrees(text):
        return "agreed", ""
    return ("reasons", text) if any(map(str.isalnum, text)) else ("empty", "")


def _agrees(text: str) -> bool:
    """Whether a text says that an image is right, and nothing against it."""
    first = re.split(r"(?<=[.!?])\s", text)[0]
    if not _FINE.search(first):
        return False
    return not _CONTRARY.search(_FINE.sub(" ", text))
