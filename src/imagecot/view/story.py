"""Why a search ended right or wrong, in sentences: from its paths, and from verdicts of judges where there are any."""

from collections.abc import Iterator, Sequence

from imagecot.view.model import Asked, Path

_SPELLED = 4  # right paths that are told one by one


def tell(paths: Sequence[Path], chosen: int, judged: Sequence[bool] | None = None, why: str = "") -> list[str]:
    """Say what was taken, whether that is right, and what became of the paths that are.

    judged  the judges' verdicts on the choice, where not those of its path
    why     what the first judge says of it
    """
    taken = paths[chosen]
    verdict = judged if judged is not None else taken.right
    told = [_taken(paths, chosen)]
    if verdict:
        told.append(_verdict(verdict, why or taken.why))
    if verdict and taken.score is not None and (taken.score >= 0.5) != verdict[0]:
        told.append(
            "The verifier believes in it all the same."
            if taken.score >= 0.5
            else "The verifier does not believe in it although it is right."
        )
    return [*told, *_others(paths, chosen, bool(verdict and verdict[0]))]


def _taken(paths: Sequence[Path], chosen: int) -> str:
    taken = paths[chosen]
    if len(paths) == 1:
        sure = f", P(yes) {taken.score:.2f}" if taken.score is not None else ""
        return f"One path was drawn{sure}."
    ended = sum(path.truncated_at is None for path in paths)
    gone = len(paths) - ended
    stopped = f", {gone} {'was' if gone == 1 else 'were'} stopped on the way" if gone else ""
    text = f"Took path {chosen + 1} of {len(paths)}{stopped}"
    if taken.score is None:
        return f"{text}."
    rivals = [path.score for path in paths if path is not taken and path.score is not None and _ran(path)]
    best = f"; the best other that ran to the end has {max(rivals):.2f}" if rivals else ""
    return f"{text}. P(yes) {taken.score:.2f}{best}."


def _ran(path: Path) -> bool:
    return path.truncated_at is None or path.resumed_at is not None


def _verdict(right: Sequence[bool], why: str) -> str:
    if len(right) > 1 and len(set(right)) > 1:
        text = f"The judges disagree: the first says {_word(right[0])}, the second {_word(right[1])}"
    else:
        text = "It is right" if right[0] else "It is wrong"
    reason = "; ".join(line.strip() for line in why.splitlines() if line.strip())
    return f"{text} ({reason})." if reason and not right[0] else f"{text}."


def _word(right: bool) -> str:
    return "right" if right else "wrong"


def _others(paths: Sequence[Path], chosen: int, is_right: bool) -> Iterator[str]:
    """What became of the right paths."""
    if all(path.right is None for path in paths) or len(paths) == 1:
        return
    right = [k for k, path in enumerate(paths) if path.right and path.right[0]]
    if is_right:
        yield f"{len(right)} of {len(paths)} paths {'is' if len(right) == 1 else 'are'} right."
    elif not right:
        yield f"None of the {len(paths)} paths is right, so that no choice could have been."
        return
    missed = [k for k in right if k != chosen and (not is_right or paths[k].truncated_at is not None)]
    for k in missed[:_SPELLED]:
        yield f"Path {k + 1} is right, but {_fate(paths[k], paths[chosen])}."
    if len(missed) > _SPELLED:
        yield f"So it went for {len(missed) - _SPELLED} more right paths."


def _fate(path: Path, taken: Path) -> str:
    """Why a path was not taken."""
    if path.truncated_at is not None and path.resumed_at is None:
        last = _last(path.asked, path.truncated_at)
        asked = f": {last.question} P(yes) {last.p_yes:.2f}" if last else ""
        return f"it was stopped after step {path.truncated_at}{asked}"
    if path.score is not None and taken.score is not None:
        less = "lower than" if path.score < taken.score else "no higher than"
        return f"its P(yes) {path.score:.2f} is {less} {taken.score:.2f} of path taken".replace(
            "path taken", "the choice"
        )
    return "another was taken"


def _last(asked: Sequence[Asked], step: int) -> Asked | None:
    """The last answer up to a step."""
    before = [one for one in asked if one.step is not None and one.step <= step]
    return before[-1] if before else None
