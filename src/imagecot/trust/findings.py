"""What a check found: a number, its limit, and a verdict in a word."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from imagecot.contracts.values import JSON

Verdict = Literal["good", "weak", "bad", "unsure", "untried"]
_TOLD = 3  # faults that the sentence names


@dataclass(frozen=True)
class Limit:
    """What a number must be: at least `least`, at most `most`, and clearly more than `chance`.

    chance  what somebody has who knows nothing; None where there is no such number
    """

    least: float | None = None
    most: float | None = None
    chance: float | None = None

    def holds(self, value: float) -> bool:
        """Whether a number is within."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        if self.least is not None and self.most is not None:
            return f"{_plain(self.least)} to {_plain(self.most)}"
        return f"at least {_plain(self.least)}" if self.least is not None else f"at most {_plain(self.most)}"


@dataclass(frozen=True)
class Finding:
    """One thing that was checked.

    part      what it is a part of, such as "reads its prompt"
    name      what was measured
    value     the number; None where it could not be measured
    error     its standard error; None where there is none
    count     how many answers, pairs or choices it is of
    fault     what a judge does whose number is beyond the limit, as the end of a sentence that begins with "it"
    """

    part: str
    name: str
    value: float | None
    limit: Limit
    fault: str
    count: int
    error: float | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of a share or probability, by the normal distribution."""
        if self.value is None or self.error is None:
            return None
        return max(0.0, self.value - 1.96 * self.error), min(1.0, self.value + 1.96 * self.error)

    @property
    def verdict(self) -> Verdict:
        """`good` within the limit, `bad` beyond it; of numbers that have an interval, beyond it by chance is `weak`.

        `unsure` where no more than chance can be told from the interval: there are too few pictures.
        """
        if self.value is None:
            return "untried"
        low, high = self.interval or (self.value, self.value)
        if not (self.limit.holds(low) or self.limit.holds(self.value) or self.limit.holds(high)):
            return "bad"
        if self.limit.chance is not None and (self.interval is None or low <= self.limit.chance):
            return "unsure"
        return "good" if self.limit.holds(self.value) else "weak"

    def as_json(self) -> dict[str, JSON]:
        """The finding as JSON knows it."""
        return {
            "part": self.part,
            "name": self.name,
            "value": self.value,
            "interval": list(self.interval) if self.interval else None,
            "least": self.limit.least,
            "most": self.limit.most,
            "count": self.count,
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Report:
    """All that was found of a judge.

    judge     its name
    question  the name of the question that it was asked
    source    what it was tried on
    remark    what the pictures cannot tell, a sentence; empty where there is nothing to say
    settings  those of the judge
    answers   how many it gave
    seconds   that all took, without loading
    """

    judge: str
    question: str
    source: str
    remark: str
    settings: Mapping[str, JSON]
    findings: Sequence[Finding]
    answers: int
    seconds: float

    @property
    def faults(self) -> list[Finding]:
        """What speaks against the judge: numbers beyond their limits, and those that may be chance."""
        return [finding for finding in self.findings if finding.verdict in ("bad", "unsure")]

    @property
    def trusted(self) -> bool:
        """Whether nothing speaks against the judge."""
        return not self.faults

    @property
    def sentence(self) -> str:
        """The result in a sentence."""
        if self.trusted:
            said = [finding.verdict for finding in self.findings if finding.verdict != "untried"]
            weak = [finding.name for finding in self.findings if finding.verdict == "weak"]
            how = f"{said.count('good')} of {len(said)} checks on {self.source} are good"
            return f"{self.judge} can be trusted: {how}{'; weak: ' if weak else ''}{', '.join(weak)}."
        told = [_fault(finding) for finding in self.faults]
        more = f"; and {len(told) - _TOLD} more" if len(told) > _TOLD else ""
        return f"{self.judge} should not be trusted: {'; '.join(told[:_TOLD])}{more}."

    def as_json(self) -> dict[str, JSON]:
        """The report as JSON knows it."""
        return {
            "judge": self.judge,
            "trusted": self.trusted,
            "sentence": self.sentence,
            "question": self.question,
            "source": self.source,
            "remark": self.remark,
            "settings": dict(self.settings),
            "findings": [finding.as_json() for finding in self.findings],
            "answers": self.answers,
            "seconds": round(self.seconds, 3),
        }


def _fault(finding: Finding) -> str:
    if finding.verdict == "unsure":
        return f"{finding.name} may be chance with {finding.count} answers"
    return f"it {finding.fault} ({shown(finding.value)}, {finding.limit})"


def shown(value: float | None) -> str:
    """A number as the table and the sentence show it: three digits behind the point, or what is less by its size."""
    if value is None:
        return "–"
    return f"{value:.0e}" if 0 < abs(value) < 0.0005 else f"{value:.3f}"


def _plain(value: float | None) -> str:
    return f"{value:g}" if value is not None else ""
