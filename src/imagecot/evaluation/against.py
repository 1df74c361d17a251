"""The comparison with another evaluation of the same prompts: read and checked before any work is done."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from imagecot.errors import UsageError
from imagecot.evaluation.state import RESULTS, Row
from imagecot.evaluation.summary import Compared, Judges, judges_of
from imagecot.geneval.summary import Verdict, compare
from imagecot.reading import Foreign, read_records

# What a judge says of itself that is no part of its answers: they may differ in the last digits only.
_LIBRARIES = ("versions", "torch")
_ADVICE = "evaluate again, or name another evaluation with --against"


class ComparedRow(Foreign):
    """What is needed of a line of results, ours or the reference's."""

    tag: str
    metadata: str | dict[str, object]
    correct: bool

    @property
    def verdict(self) -> Verdict:
        """What counts of it."""
        text = self.metadata if isinstance(self.metadata, str) else json.dumps(self.metadata)
        return Verdict(self.tag, text, self.correct)


@dataclass(frozen=True)
class Other:
    """The evaluation that --against names.

    judges  who judged it; None where that is not known
    """

    path: Path
    verdicts: Sequence[Verdict]
    judges: Judges | None

    @classmethod
    def read(cls, path: Path, out: Path) -> Self:
        """Read it; UsageError where it is none, naming a malformed line, or is what `out` holds."""
        file = path / RESULTS if path.is_dir() else path
        if file.resolve() == (out / RESULTS).resolve():
            raise UsageError(f"--against names {path}, which this evaluation writes; name another one.")
        if not file.exists():
            raise UsageError(f"{path} holds no finished evaluation ({file.name} is missing or unreadable).")
        verdicts = [row.verdict for _, row in read_records(file, ComparedRow, failure=UsageError, advice=_ADVICE)]
        if not verdicts:
            raise UsageError(f"{file} is empty; {_ADVICE}.")
        return cls(path, verdicts, judges_of(file.parent))

    def check(self, asked: Mapping[tuple[str, str], int]) -> None:
        """Raise UsageError where its images are not those of `asked`: how many of each (tag, metadata)."""
        there = Counter(map(_prompt, self.verdicts))
        for key in {**asked, **there}:
            if asked.get(key, 0) != there.get(key, 0):
                raise UsageError(
                    f"--against {self.path} has {there.get(key, 0)} images where this evaluation has "
                    f"{asked.get(key, 0)}, of {_words(key[1])!r}; compare evaluations of the same prompts, with as "
                    "many images of each."
                )

    def compare(self, rows: Sequence[Row], judges: Judges) -> Compared:
        """Compare results with it; UsageError as of `check`."""
        own = [row.verdict for row in rows]
        self.check(Counter(map(_prompt, own)))
        here, there = (sorted(verdicts, key=_prompt) for verdicts in (own, self.verdicts))
        found = asdict(compare(here, there))
        differ = self._difference(judges)
        if differ:
            found |= {"low": None, "high": None, "p_value": None}
        return Compared(folder=str(self.path), judges_differ=differ, **found)

    def _difference(self, judges: Judges) -> str:
        """How the judges differ, in half a sentence; empty where they do not."""
        if self.judges is None:
            return "who judged the other is not known"
        here, there = judges.detector, self.judges.detector
        for key in dict.fromkeys((*here, *there)):
            if key not in _LIBRARIES and here.get(key) != there.get(key):
                return f"{key} {_shown(here.get(key))} here, {_shown(there.get(key))} there"
        return ""


def _prompt(verdict: Verdict) -> tuple[str, str]:
    return verdict.tag, verdict.metadata


def _words(metadata: str) -> str:
    try:
        return str(json.loads(metadata)["prompt"])[:80]
    except (ValueError, TypeError, KeyError, RecursionError):
        return metadata[:80]


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:60] + "…"
