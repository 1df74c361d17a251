"""Does a judge read its prompt, look at its picture, and mean what it says: numbers from answers about known cases."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from imagecot.statistics.answers import auroc, balanced_accuracy, calibration_error
from imagecot.statistics.clustered import jackknife_error, mean_error
from imagecot.trust.findings import Finding, Limit
from imagecot.trust.material import ABSENT, COLOR, NUMBER, OTHER, PLACE, TRUE, WRONG, Material

FEWEST = 5  # cases of which a mean is told
_FEWEST_IN_BINS = 50  # with fewer a calibrated judge seems to be none
_AFFIRM, _NEAR, _FALSE, _CONTRAST = Limit(least=0.5), Limit(most=0.5), Limit(most=0.25), Limit(least=0.75, chance=0.5)
_READS, _LOOKS, _FITS = "reads its prompt", "looks at its picture", "means what it says"
_KINDS: dict[str, tuple[str, Limit, str]] = {
    TRUE: ("P(yes), true prompt", _AFFIRM, "denies true prompts"),
    ABSENT: ("P(yes), absent object", _FALSE, "affirms objects that are not there"),
    OTHER: ("P(yes), prompt of another picture", _FALSE, "affirms prompts of other pictures"),
    COLOR: ("P(yes), wrong colour", _FALSE, "affirms wrong colours"),
    NUMBER: ("P(yes), wrong number", _NEAR, "affirms wrong numbers"),
    PLACE: ("P(yes), wrong place", _NEAR, "affirms wrong places"),
    WRONG: ("P(yes), labelled no", _NEAR, "affirms pictures that are labelled no"),
}


def read(material: Material, answers: Tensor) -> list[Finding]:
    """How it answers (N,) each kind of case, and whether a picture's own prompt gets more than another's."""
    found = []
    for kind, (name, limit, fault) in _KINDS.items():
        own = material.of(kind)
        if len(own) >= FEWEST:
            values = answers[own].tolist()
            error = mean_error(values, [material.clusters[k] for k in own])
            found.append(Finding(_READS, name, float(np.mean(values)), limit, fault, len(own), error))
    true = {material.cases[k].picture: k for k in material.of(TRUE)}
    own_prompt = [(float(answers[true[material.cases[k].picture]] - answers[k]), k) for k in material.of(OTHER)]
    return [*found, _ahead(material, own_prompt, _READS, "a picture's own prompt gets more", "ignores its prompt")]


def looked(material: Material, answers: Tensor, empty: dict[str, Tensor]) -> list[Finding]:
    """Whether a prompt gets more about its own picture than about another.

    empty  P(yes) (T,) to the true prompts about pictures that show nothing, by what these are
    """
    own_picture = [
        (float(answers[owner] - answers[k]), k)
        for k in material.of(OTHER)
        if (owner := material.cases[k].owner) is not None
    ]
    ahead = _ahead(material, own_picture, _LOOKS, "a prompt's own picture gets more", "ignores its picture")
    clusters = [material.clusters[k] for k in material.of(TRUE)]
    found = [ahead]
    for what, values in empty.items():
        error = mean_error(values.tolist(), clusters)
        fault = f"affirms prompts about a picture of {what}"
        name = f"P(yes), true prompt and {what}"
        found.append(Finding(_LOOKS, name, float(values.mean()), _FALSE, fault, len(values), error))
    return found


def fitted(material: Material, answers: Tensor) -> list[Finding]:
    """How well answers tell true from false, and how far P(yes) is from the share of yes.

    Half of the cases are true: of labelled data those that are labelled, else each true prompt and one false prompt.
    """
    own = _balanced(material)
    p_yes, labels = answers[own], torch.tensor([material.cases[k].fits for k in own])
    clusters = [material.clusters[k] for k in own]

    def finding(name: str, statistic: Callable[[Tensor, Tensor], float], limit: Limit, fault: str) -> Finding:
        error = jackknife_error(lambda part: statistic(p_yes[part], labels[part]), clusters)
        value = statistic(p_yes, labels)
        return Finding(_FITS, name, None if value != value else value, limit, fault, len(own), error)

    always = f"says {'yes' if float((p_yes >= 0.5).double().mean()) > 0.5 else 'no'} to nearly everything"
    order = "orders answers the wrong way round" if auroc(p_yes, labels) < 0.5 else "hardly tells true from false"
    calibrated = finding("calibration error", calibration_error, Limit(most=0.2), "is not calibrated")
    return [
        finding("share of yes, where half is true", _yes, Limit(0.2, 0.8), always),
        finding("AUROC", auroc, Limit(least=0.7, chance=0.5), order),
        finding("balanced accuracy", balanced_accuracy, Limit(least=0.65, chance=0.5), "is wrong too often"),
        calibrated if len(own) >= _FEWEST_IN_BINS else replace(calibrated, value=None, error=None),
    ]


def _yes(p_yes: Tensor, labels: Tensor) -> float:
    """The share of yes as it were if half of the cases were true."""
    said = p_yes >= 0.5
    return float((said[labels].double().mean() + said[~labels].double().mean()) / 2)


def _balanced(material: Material) -> list[int]:
    """The numbers of as many false cases as true ones."""
    true, wrong = material.of(TRUE), material.of(WRONG)
    if len(wrong) >= FEWEST:
        return [*true, *wrong]
    by_picture: dict[int, list[int]] = {}
    for k, case in enumerate(material.cases):
        if not case.fits:
            by_picture.setdefault(case.picture, []).append(k)
    return [*true, *(own[turn % len(own)] for turn, own in enumerate(by_picture.values()))]


def _ahead(material: Material, pairs: Sequence[tuple[float, int]], part: str, name: str, fault: str) -> Finding:
    """The share of pairs in which the first has more, ties half.

    pairs  by how much it has more, and the number of the case
    """
    wins = [0.5 + 0.5 * float(np.sign(gap)) for gap, _ in pairs]
    clusters: list[Hashable] = [material.clusters[k] for _, k in pairs]
    value = float(np.mean(wins)) if len(wins) >= FEWEST else None
    error = mean_error(wins, clusters) if wins else None
    # Where all pairs agree the errors are 0: the rule of three bounds what could have been missed.
    if value is not None and error == 0:
        error = 3 / len(wins) / 1.96
    return Finding(part, name, value, _CONTRAST, fault, len(wins), error)
