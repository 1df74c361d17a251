"""The comparison with another evaluation of the same prompts: read and checked before any work is done."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from imagecot.errors import UsageError
from imagecot.evaluation.state import RESULTS, Compared, Row, judges_of
from imagecot.geneval.summary import compare
from imagecot.reading import Foreign, read_records

# What a judge says of itself that is no part of its answers: they may differ in the last digits only.
_LIBRARIES = ("versions", "torch")


class ComparedRow(Foreign):
    """What is needed of a line of results, ours or the reference's."""

    tag: str
    metadata: str | dict[str, Any]
    correct: bool


class Other:
    """The evaluation that --against names."""

    def __init__(self, path: Path, out: Path) -> None:
        """Read it; UsageError where it is none, naming a malformed line, or is what `out` holds."""
        self.path = path
        file = path / RESULTS if path.is_dir() else path
        if file.resolve() == (out / RESULTS).resolve():
            raise UsageError(f"--against names {path}, which this evaluation writes; name another one.")
        if not file.exists():
            raise UsageError(f"{path} holds no finished evaluation ({file.name} is missing or unreadable).")
        advice = "evaluate again, or name another evaluation with --against"
        self.rows = [
            _plain(row.tag, row.metadata, row.correct)
            for _, row in read_records(file, ComparedRow, failure=UsageError, advice=advice)
        ]
        if not self.rows:
            raise UsageError(f"{file} is empty; {advice}.")
        self.judges = judges_of(file.parent)

    def check(self, asked: Mapping[tuple[str, str], int]) -> None:
        """Raise UsageError where its images are not those of `asked`: how many of each (tag, metadata)."""
        there = Counter((row["tag"], row["metadata"]) for row in self.rows)
        for key in {**asked, **there}:
            if asked.get(key, 0) != there.get(key, 0):
                raise UsageError(
                    f"--against {self.path} has {there.get(key, 0)} images where this evaluation has "
                    f"{asked.get(key, 0)}, of {_prompt(key[1])!r}; compare evaluations of the same prompts, with as "
                    "many images of each."
                )

    def compare(self, rows: Sequence[Row], judges: Mapping[str, Any]) -> Compared:
        """Compare results with it; UsageError as of `check`."""
        own = [_plain(row.tag, row.metadata, row.correct) for row in rows]
        self.check(Counter((row["tag"], row["metadata"]) for row in own))
        found = asdict(compare(_by_prompt(own), _by_prompt(self.rows)))
        differ = self._difference(judges)
        if differ:
            found |= {"low": None, "high": None, "p_value": None}
        return Compared(folder=str(self.path), judges_differ=differ, **found)

    def _difference(self, judges: Mapping[str, Any]) -> str:
        """How the judges differ, in half a sentence; empty where they do not."""
        if self.judges is None:
            return "who judged the other is not known"
        here, there = judges["detector"], self.judges["detector"]
        for key in dict.fromkeys((*here, *there)):
            if key not in _LIBRARIES and here.get(key) != there.get(key):
                return f"{key} {_shown(here.get(key))} here, {_shown(there.get(key))} there"
        return ""


def _plain(tag: str, metadata: str | Mapping[str, Any], correct: bool) -> dict[str, Any]:
    text = metadata if isinstance(metadata, str) else json.dumps(metadata)
    return {"tag": tag, "metadata": text, "correct": correct}


def _by_prompt(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (row["tag"], row["metadata"]))


def _prompt(metadata: str) -> str:
    try:
        return str(json.loads(metadata)["prompt"])[:80]
    except (ValueError, TypeError, KeyError, RecursionError):
        return metadata[:80]


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:60] + "…"
