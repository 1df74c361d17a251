"""How right the reasons are that a verifier gives."""

from collections.abc import Sequence

from imagecot.reflection.discrepancies import Discrepancy


def found_and_said(said: Sequence[Sequence[Discrepancy]], true: Sequence[Sequence[Discrepancy]]) -> dict[str, float]:
    """Precision and recall of the discrepancies that a verifier said of images, against those that are there.

    One counts as right where all of it is; `_of_kind` asks for kind and object only. NaN where there is nothing to
    divide by.
    """

    def scores(hits: int, of_said: int, of_true: int) -> tuple[float, float]:
        return hits / of_said if of_said else float("nan"), hits / of_true if of_true else float("nan")

    pairs = [(set(a), set(b)) for a, b in zip(said, true, strict=True)]
    loose = [({(d.kind, d.object) for d in a}, {(d.kind, d.object) for d in b}) for a, b in pairs]
    strict = scores(sum(len(a & b) for a, b in pairs), sum(len(a) for a, _ in pairs), sum(len(b) for _, b in pairs))
    kinds = scores(sum(len(a & b) for a, b in loose), sum(len(a) for a, _ in loose), sum(len(b) for _, b in loose))
    return {
        "precision": strict[0],
        "recall": strict[1],
        "precision_of_kind": kinds[0],
        "recall_of_kind": kinds[1],
    }
