"""Trying a judge by its name on labelled pictures."""

import time
from pathlib import Path

import torch
from torch import Tensor

from imagecot.contracts.asking import Selective
from imagecot.contracts.questions import ORM, POTENTIAL, PRM, QUESTIONS, Question
from imagecot.contracts.verifier import Verifier
from imagecot.errors import UsageError, nearest
from imagecot.imported import calling
from imagecot.precision import Device, check_precision
from imagecot.prompts import check_prompts
from imagecot.trust.asking import Asked
from imagecot.trust.drawn import drawn_material
from imagecot.trust.findings import Finding, Report
from imagecot.trust.material import TRUE, Material
from imagecot.trust.own import own_material
from imagecot.trust.reading import fitted, looked, read
from imagecot.trust.steadiness import Chosen, agreed, choose, steady, told_apart
from imagecot.verifiers import load_verifier
from imagecot.watch import SILENT, Watch

_EXACT = "float32"
_ASKED: dict[str, Question] = {question.name: question for question in QUESTIONS[:4]}
_OF_FINISHED = (ORM, PRM, POTENTIAL)  # true of a finished picture where its prompt is
_DRAWN = "Pictograms say little about photos: for those give labelled ones with --images."


def check_judge(
    name: str,
    *,
    images: Path | str | None = None,
    question: str | None = None,
    precision: str | None = None,
    against: str | None = None,
    device: Device = None,
    watch: Watch = SILENT,
) -> Report:
    """Try whether a judge reads, looks, is calibrated and steady, and tells pictures apart.

    name       of a verifier, as `imagecot.verifiers.load_verifier` takes it
    images     labelled pictures of the user's (`imagecot.trust.own`); drawn pictograms where nothing is given
    question   orm, prm, clarity or potential; by default the first of orm, prm and potential that the judge answers
    precision  of the judge's weights; another than float32 is compared with float32 too
    against    the name of a second verifier that must answer alike, such as a served copy

    UsageError for names, questions or pictures that there are not, and prompts that the judge cannot read;
    ImagecotError for pictures that cannot be read, and whatever a judge raises.
    """
    check_precision(precision)
    verifier = _loaded(name, precision, device, watch)
    about = _question(name, verifier, question)
    with watch.waiting("reading the pictures"):
        material = own_material(Path(images), about) if images is not None else _drawn(about)
    check_prompts(material.prompts, verifier)
    started = time.perf_counter()
    with watch.progress(f"asking {name}") as progress:
        judge = Asked(verifier, about, progress, _expected(material))
        answers, chosen, findings = _judged(judge, material)
    found, settings = judge.answers, dict(verifier.settings)
    del judge, verifier  # the next model may need the memory
    if precision not in (None, _EXACT):
        exact = Asked(_loaded(name, _EXACT, device, watch), about, lambda done, of, note="": None)
        nothing = torch.empty(0, dtype=torch.float64)
        findings += _in_float32(chosen, choose(exact, material), nothing)
        found += exact.answers
    if against is not None:
        findings += _compared(against, about, material, (answers, chosen), (device, watch))
        found += len(answers) + len(chosen.all)
    seconds = time.perf_counter() - started
    remark = _DRAWN if images is None else ""
    return Report(name, about.name, material.source, remark, settings, findings, found, seconds)


def _loaded(name: str, precision: str | None, device: Device, watch: Watch) -> Verifier:
    with watch.waiting(f"loading {name}"):
        return load_verifier(name, device=device, dtype=precision)


def _question(name: str, verifier: Verifier, asked: str | None) -> Question:
    """The question that is asked for, or the first that the judge answers."""
    if asked is not None and asked not in _ASKED:
        raise nearest("question", asked, list(_ASKED))
    for question in [_ASKED[asked]] if asked is not None else _OF_FINISHED:
        try:
            if isinstance(verifier, Selective):
                with calling(verifier, "check_question"):
                    verifier.check_question(question)
            return question
        except UsageError:
            if asked is not None:
                raise
    raise UsageError(
        f"{name} answers none of {', '.join(q.name for q in _OF_FINISHED)}; name what it does: --question."
    )


def _drawn(question: Question) -> Material:
    if question not in _OF_FINISHED:
        raise UsageError(
            f"the pictograms are finished pictures, of which {question.name} has no labels; give ranking data with "
            "--images, as imagecot curate makes it."
        )
    return drawn_material()


def _expected(material: Material) -> int:
    """How many answers a judge will give about a material, all in all."""
    groups = [len(group.pictures) for group in material.groups]
    return len(material.cases) + 2 * len(material.of(TRUE)) + 3 * sum(groups) + (groups[0] if groups else 0)


def _judged(judge: Asked, material: Material) -> tuple[Tensor, Chosen, list[Finding]]:
    """The answers (N,) about the cases, those about the groups, and all that is found of one judge."""
    cases = material.cases
    answers = judge.ask([material.pictures[case.picture] for case in cases], [case.prompt for case in cases])
    true = [cases[k] for k in material.of(TRUE)]
    shown = [material.pictures[case.picture] for case in true]
    prompts = [case.prompt for case in true]
    noise = torch.Generator().manual_seed(0)
    empty = {
        "plain grey": judge.ask([torch.full_like(picture, 0.5) for picture in shown], prompts),
        "noise": judge.ask([torch.rand(picture.shape, generator=noise) for picture in shown], prompts),
    }
    chosen = choose(judge, material)
    findings = [*read(material, answers), *looked(material, answers, empty), *fitted(material, answers)]
    findings += steady(judge, material, chosen)
    said = judge.verifier.settings.get("precision")
    return answers, chosen, [*findings, told_apart(chosen, said if isinstance(said, str) else "")]


def _in_float32(chosen: Chosen, exact: Chosen, nothing: Tensor) -> list[Finding]:
    return [told_apart(exact, _EXACT), *agreed(_EXACT, (nothing, nothing), chosen, exact)]


def _compared(
    against: str, question: Question, material: Material, said: tuple[Tensor, Chosen], where: tuple[Device, Watch]
) -> list[Finding]:
    """What a second judge says of the same, beside what the first has said."""
    device, watch = where
    verifier = _loaded(against, None, device, watch)
    check_prompts(material.prompts, verifier)
    with watch.progress(f"asking {against}") as progress:
        other = Asked(verifier, question, progress, len(said[0]) + len(said[1].all))
        cases = material.cases
        answers = other.ask([material.pictures[case.picture] for case in cases], [case.prompt for case in cases])
        return agreed(against, (said[0], answers), said[1], choose(other, material))
