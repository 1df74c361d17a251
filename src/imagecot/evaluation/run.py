"""`run`: a whole evaluation, from the request to the summary, in this process, in several, or under a launcher."""

import hashlib
import os
import platform
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from imagecot import __version__, models, registry
from imagecot.errors import ImagecotError, UsageError
from imagecot.evaluation.against import Other
from imagecot.evaluation.evaluate import Drawing, Models, check_drawing, plan, work
from imagecot.evaluation.folder import ImageSet
from imagecot.evaluation.report import failures_page, summarise_run, table, with_comparison
from imagecot.evaluation.state import (
    CONTENT,
    FAILURES,
    IDENTITY,
    TABLE,
    Evaluation,
    Piece,
    read_rows,
    read_summary,
    settings_of,
)
from imagecot.files import check_writable, write_text
from imagecot.identity import read_identity
from imagecot.launch import launched, leftovers
from imagecot.naming import printable
from imagecot.processes import share
from imagecot.strategies.defaults import load_model
from imagecot.strategies.options import told
from imagecot.worlds.find import load_judges, world_of


@dataclass(frozen=True)
class Screen:
    """How people are told what goes on; by default they are not.

    tell      is given a sentence
    waiting   a context while something takes long, given what
    progress  a context of work, given what; yields what is told (done, of how many)
    """

    tell: Callable[[str], None] = lambda text: None
    waiting: Callable[[str], AbstractContextManager[object]] = nullcontext
    progress: Callable[[str], AbstractContextManager[Callable[[int, int], None]]] = lambda text: nullcontext(
        lambda done, of: None
    )


@dataclass(frozen=True)
class Job:
    """An evaluation that is asked for.

    source    the images that there are, or how to draw them
    images    the folder of the images that there are
    samples   images a prompt
    workers   processes, where no launcher started this one
    world     where the detector is looked for first, by its name; None where all that there are will do
    """

    source: ImageSet | Drawing
    images: Path | None
    samples: int
    detector: str
    clip: str
    precision: str | None
    out: Path
    workers: int = 1
    world: str | None = None

    def load_judges(self) -> Models:
        """Load who judges."""
        first, *others = load_judges(self.detector, self.clip, self.world)
        return Models(first, others[0] if others else None)

    @property
    def identity(self) -> dict[str, Any]:
        """What defines the evaluation: equal identities give equal results."""
        weights = self.source.named.digests() if isinstance(self.source, Drawing) else {}
        common = {"samples": self.samples, "detector": self.detector, "clip": self.clip, "weights": weights}
        own = {f"{role}_sha256": _content(name) for role, name in (("detector", self.detector), ("clip", self.clip))}
        if registry.is_code("detector", self.detector):
            own["detector_sha256"] = registry.digests("detector", self.detector).get("detector", "")
        common |= {key: digest for key, digest in own.items() if digest}
        if isinstance(self.source, ImageSet):
            asked = {"images": str(self.images), **common, CONTENT: self.source.digest}
            return asked | {"precision": self.precision}
        return {**_drawn(self.source), **common, "precision": self.precision, **_settings(self.source, self.precision)}


def _drawn(drawing: Drawing) -> dict[str, Any]:
    """What an identity says of how images are drawn."""
    text, named = "\n".join(metadata.text for metadata in drawing.prompts), drawing.named
    corrector = {"corrector": named.models["corrector"]} if "corrector" in named.models else {}
    return {
        "generator": named.models["generator"],
        "verifier": named.models.get("verifier"),
        **corrector,
        "search": named.strategy,
        "n": named.paths(drawing.n),
        "seed": drawing.seed,
        "prompts": len(drawing.prompts),
        "prompts_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }


def _settings(drawing: Drawing, precision: str | None) -> dict[str, Any]:
    """What an identity says of the settings of the search, given and advised, and of models that are others' code."""
    search = told(drawing.named.settings())
    # Those of a checkpoint follow from its digests; other people's code has to be asked.
    code = {role: name for role, name in drawing.named.models.items() if registry.is_code(role, name)}
    asked = {settings_of(role): dict(load_model(role, name, precision).settings) for role, name in code.items()}
    return ({settings_of("search"): search} if search else {}) | asked


def _content(judge: str) -> str:
    """SHA-256 of the weights of a judge that is a file or folder here; empty for a name, whose weights stay."""
    path = Path(judge)
    files = [path] if path.is_file() else models.weight_files(path) if path.is_dir() else []
    digests = []
    for file in files:
        with file.open("rb") as data:
            digests.append(hashlib.file_digest(data, "sha256").hexdigest())
    return hashlib.sha256(" ".join(digests).encode()).hexdigest() if digests else ""


def run(job: Job, *, against: Path | None = None, screen: Screen = Screen()) -> dict[str, Any] | None:
    """Do what is missing of an evaluation and return its summary; None in all but the first process of a launcher.

    against  another evaluation to compare with

    UsageError where the folder holds something else, a prompt cannot be drawn or judged, or `against` does not match;
    ImagecotError where not one image could be scored, or a file of the evaluation is damaged.
    """
    rank, world = _processes(screen)
    _check(job, against)
    state = Evaluation(job.out, job.identity)
    other = Other(against, job.out) if against else None
    if other and isinstance(job.source, Drawing):
        other.check({(m.tag, m.text): job.samples for m in job.source.prompts})
    if not state.finished:
        if state.changed:
            screen.tell(f"the images have changed since {job.out} was written; they are scored again.")
        check_writable(job.out)
        todo = plan(job.source)
        _share(job, state, todo, screen, rank, world)
        if rank == 0:
            _conclude(job, state, todo)
    if rank:
        return None
    summary = _finished(job, state)
    if other:
        compared = other.compare(read_rows(state.out), summary["record"])
        summary = with_comparison(summary, compared.model_dump(exclude_defaults=True))
        state.write_summary(summary)
    return summary


def _processes(screen: Screen) -> tuple[int, int]:
    """Which process of how many this is, by its launcher; people are told where that is not obvious."""
    rank, world = launched()
    if world > 1:
        screen.tell(f"this is process {rank + 1} of {world} by RANK and WORLD_SIZE of its launcher.")
    elif leftovers():
        screen.tell(
            f"{' and '.join(leftovers())} in the environment are ignored, since no launcher such as accelerate "
            "started this process: it does all of the work."
        )
    return rank, world


def _check(job: Job, against: Path | None) -> None:
    """Raise UsageError for judges that are not there, paths that no file can record, and prompts that weigh double."""
    if job.detector not in world_of(job.detector, job.world).judges:
        registry.check("detector", job.detector)
    for path in (job.out, job.images, against):
        if path is not None and any(0xD800 <= ord(character) <= 0xDFFF for character in str(path)):
            raise UsageError(f"{printable(str(path))} is not a name in UTF-8; rename it.")
    if isinstance(job.source, Drawing):
        first: dict[str, int] = {}
        for number, metadata in enumerate(job.source.prompts, 1):
            same = first.setdefault(metadata.key, number)
            if same != number:
                raise UsageError(
                    f"prompt {number} of the metadata is prompt {same} again ({metadata.prompt[:60]!r}), so it "
                    "would weigh double; leave one of them out."
                )


def _share(job: Job, state: Evaluation, todo: Sequence[Piece], screen: Screen, rank: int, world: int) -> None:
    """Do what is missing: in this process, in several of this machine, or this one's part under a launcher."""
    if world > 1:
        _work_on(job, state, todo[rank::world], screen)
        from accelerate import PartialState

        PartialState(cpu=not torch.cuda.is_available()).wait_for_everyone()
        return
    missing = state.missing(todo)
    workers = min(job.workers, len(missing))
    if workers <= 1:
        _work_on(job, state, todo, screen)
        return
    with screen.progress("evaluating") as progress:
        share(
            _worker, (job, state.identity, missing), workers,
            lambda: progress(len(todo) - len(state.missing(todo)), len(todo)),
        )  # fmt: skip
    if state.missing(todo):
        raise ImagecotError("a worker process died; run the same command again to go on, or use fewer --workers.")


def _worker(job: Job, identity: dict[str, Any], missing: Sequence[Piece], rank: int, workers: int) -> None:
    """One process's share of the units."""
    _work_on(job, Evaluation(job.out, identity), missing[rank::workers], Screen())


def _work_on(job: Job, state: Evaluation, todo: Sequence[Piece], screen: Screen) -> None:
    """Do those units that are missing, in this process."""
    missing = state.missing(todo)
    if not missing:
        return
    with screen.waiting("loading the models"):
        loaded = _load(job)
    if isinstance(job.source, Drawing):
        check_drawing(job.source, loaded)
    state.settle(loaded.settings)
    left = len(missing)
    with screen.progress("evaluating") as progress:

        def done() -> None:
            nonlocal left
            left -= 1
            progress(len(todo) - left, len(todo))

        work(job.source, missing, loaded, state, done)


def _load(job: Job) -> Models:
    if torch.cuda.is_available() and launched()[1] > 1:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    judges = job.load_judges()
    if isinstance(job.source, ImageSet):
        return judges
    named = job.source.named
    used = {role: name for role, name in named.models.items() if role != "verifier" or role in named.search.needs}
    return replace(judges, **{role: load_model(role, name, job.precision) for role, name in used.items()})


def _conclude(job: Job, state: Evaluation, todo: Sequence[Piece]) -> None:
    """Join the units and write everything that a finished evaluation leaves."""
    whole = state.whole(todo)
    remarked: Sequence[str] = ()
    if isinstance(job.source, ImageSet):
        whole = whole.model_copy(update={"problems": [*job.source.problems, *whole.problems]})
        remarked = job.source.remarks
    if not whole.rows:
        state.forget()
        raise ImagecotError(f"not one image could be scored: {' '.join(whole.problems[:3])}")
    judges = state.judges() or job.load_judges().judges
    record = {**judges.model_dump(), "run": read_identity(state.out / IDENTITY), "versions": _versions()}
    summary = summarise_run(whole, remarked, record)
    state.write_results(whole)
    failures_page(whole.rows, _root(job), state.out / FAILURES)
    write_text(state.out / TABLE, table(summary) + "\n")
    state.write_summary(summary)
    state.clean()


def _finished(job: Job, state: Evaluation) -> dict[str, Any]:
    """The summary of what was finished before; what a person deleted beside it is written again."""
    summary = read_summary(state.out)
    if not (state.out / TABLE).is_file():
        write_text(state.out / TABLE, table(summary) + "\n")
    if not (state.out / FAILURES).is_file():
        failures_page(read_rows(state.out), _root(job), state.out / FAILURES)
    state.clean()
    return summary


def _root(job: Job) -> Path:
    """What the names of the images in the results are relative to."""
    return job.out if isinstance(job.source, Drawing) else Path()


def _versions() -> dict[str, str]:
    import numpy
    import PIL
    import transformers

    return {
        "imagecot": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": numpy.__version__,
        "pillow": PIL.__version__,
        "python": platform.python_version(),
    }
