"""A rule, and what was found when it was tried."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from imagecot.contracts.values import JSON
from imagecot.imported import told
from imagecot.memory import is_out_of_memory

State = Literal["kept", "broken", "remark", "not tried"]
Subject = TypeVar("Subject")  # what rules are tried on


@dataclass(frozen=True)
class Remark:
    """What is worth knowing of a class that nevertheless keeps the rule."""

    text: str


@dataclass(frozen=True)
class Rule(Generic[Subject]):
    """A rule and when it is tried.

    holds       the function: it returns None where the subject keeps the rule, else what was seen and what to do
    after       rules without which it says nothing: where one of them is broken, it is not tried
    capability  the protocol of those that it is for; None for everybody
    """

    holds: Callable[[Subject], str | Remark | None]
    after: tuple[Callable[[Subject], str | Remark | None], ...] = ()
    capability: type | None = None

    @property
    def name(self) -> str:
        """How the rule is called."""
        return self.holds.__name__.replace("_", " ")


@dataclass(frozen=True)
class Outcome:
    """What came of a rule: kept, broken, or not tried; and what was seen."""

    rule: str
    state: State
    seen: str = ""


def tried(rules: Sequence[Rule[Subject]], subject: Subject, model: object) -> list[Outcome]:
    """Try all rules that a model is meant by, in their order.

    subject  what the rules are given
    model    whose capabilities are asked for

    What a model raises breaks the rule that was tried; nothing is raised but a lack of memory.
    """
    found: dict[Callable[[Subject], str | Remark | None], Outcome] = {}
    for rule in rules:
        before = [found[one] for one in rule.after if one in found]
        wrong = [one for one in before if one.state == "broken"]
        untried = [one for one in before if one.state == "not tried"]
        if wrong or untried:
            why = f"first mend: {wrong[0].rule}." if wrong else untried[0].seen
            found[rule.holds] = Outcome(rule.name, "not tried", why)
        elif rule.capability is None or isinstance(model, rule.capability):
            found[rule.holds] = _outcome(rule, subject)
    return list(found.values())


def broken(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The rules that are broken."""
    return [outcome for outcome in outcomes if outcome.state == "broken"]


def as_json(outcomes: Sequence[Outcome]) -> dict[str, JSON]:
    """All outcomes as JSON knows them."""
    rules: list[JSON] = [{"rule": one.rule, "state": one.state, "seen": one.seen} for one in outcomes]
    return {"kept": not broken(outcomes), "rules": rules}


def _outcome(rule: Rule[Subject], subject: Subject) -> Outcome:
    try:
        seen = rule.holds(subject)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return Outcome(rule.name, "broken", f"it raises {told(error)}; mend it.")
    if isinstance(seen, Remark):
        return Outcome(rule.name, "remark", seen.text)
    return Outcome(rule.name, "kept") if seen is None else Outcome(rule.name, "broken", seen)
