"""`imagecot generate`: draw a prompt, search, and leave the image, the steps and the trace in a folder."""

import datetime
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imagecot.commands.output import completion, nearest, progress_bar, say, usable, waiting
from imagecot.errors import UsageError
from imagecot.interruption import continuing
from imagecot.precision import PRECISIONS
from imagecot.strategies import STRATEGIES, check_request, search

if TYPE_CHECKING:
    from imagecot.strategies.trace import Trace

# Who judges the shipped generators in each search, where nobody is named.
DEFAULT_VERIFIERS = {
    "best-of-n": "tiny-orm", "stepwise": "tiny-prm", "parm": "tiny-parm", "parm++": "tiny-parm++",
}  # fmt: skip
# What measured best with a shipped verifier: to tiny-parm no preview before step 6 of 18 is clear, and of a hard prompt
# it refuses nearly every path.
STOPPING = {name: {"first_step": 6, "keep": 0.4} for name in ("tiny-parm", "tiny-parm++")}
DEFAULT_CORRECTOR = "tiny-self-correct"  # of the shipped generators in parm++
_MOST_NAMESAKES = 1000
PAPER: dict[str, Any] = {"first_step": 1, "keep": 0.0}  # how paths are stopped by all others


def generate(
    prompt: Annotated[str, typer.Argument(help="What to draw.", show_default=False)],
    generator: Annotated[
        str,
        typer.Option(
            help="A shipped name, a checkpoint folder or a hub id.",
            autocompletion=completion("generator"),
        ),
    ] = "tiny-dpo",
    verifier: Annotated[
        str | None,
        typer.Option(
            help="Who judges: likewise. A shipped generator has its own for each search.",
            autocompletion=completion("verifier"),
        ),
    ] = None,
    strategy: Annotated[
        str,
        typer.Option(
            "--search",
            help=f"Which paths live: {', '.join(STRATEGIES)}.",
            autocompletion=lambda: list(STRATEGIES),
        ),
    ] = "parm",
    n: Annotated[int, typer.Option("-n", help="How many paths are drawn.")] = 20,
    seed: Annotated[int, typer.Option(help="The same seed draws the same paths.")] = 0,
    first_step: Annotated[
        int | None,
        typer.Option(
            help="The first step after which parm and parm++ look at a path; later is faster. Default: 1, with "
            "tiny-parm 6, from where previews count as clear to it.",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[
        float | None,
        typer.Option(
            help="The share of clear paths that parm and parm++ let run on. Default: 0 (a no stops), tiny-parm 0.5.",
            show_default=False,
        ),
    ] = None,
    corrector: Annotated[
        str | None,
        typer.Option(
            help="Who draws again what parm++ finds wrong, with the same image codes. Default: the generator itself, "
            "of shipped ones tiny-self-correct.",
            autocompletion=completion("generator"),
            show_default=False,
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help=f"Of all models: {', '.join(PRECISIONS)}. Default: bfloat16 on a GPU, else float32.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Where to write. Default: runs/<date>-<prompt>.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Draw a prompt many times and keep the image that the verifier believes in most.

    Writes image.png (the choice), steps.png (how every path got there) and trace.jsonl into the folder. An
    interrupted run is resumed by the same command; a finished one is reported again.

    Examples:

      imagecot generate "a photo of a red apple"

      imagecot generate "two cups" --search single --seed 7 --out runs/cups

      imagecot generate "a bird left of a cup" --generator tiny-dpo --search parm++

      imagecot generate "a blue car" -n 50 --json | jq .chosen
    """
    from imagecot import models

    check_request(prompt, strategy, n, seed)
    precision = usable(precision)
    if strategy == "parm++" and generator in models.shipped("generator") and generator != DEFAULT_CORRECTOR:
        corrector = DEFAULT_CORRECTOR if corrector is None else corrector
    if verifier is None and strategy != "single":
        elsewhere = models.locate(generator) is not None or generator.count("/") == 1
        if elsewhere and generator not in models.shipped("generator"):
            raise UsageError(
                f"{strategy} needs a verifier trained for what {generator} draws; name it with --verifier."
            )
        verifier = DEFAULT_VERIFIERS[strategy]
    given = {name: value for name, value in (("first_step", first_step), ("keep", keep)) if value is not None}
    best = STOPPING.get(verifier or "", {}) if strategy in ("parm", "parm++") else {}
    named = {"generator": generator, "verifier": verifier, "corrector": corrector}
    request = Request(
        prompt=prompt,
        names={role: name for role, name in named.items() if name is not None},
        strategy=strategy,
        n=n,
        seed=seed,
        stopping=PAPER | best | given,
        precision=precision,
    )
    weights = request.weights()
    folder, finished = _open(request, weights, out)
    default = "" if out else f" with --out {folder}"
    with continuing(f"the same command{default} continues where this run was"):
        trace = finished or _run(request, weights, folder)
    if as_json:
        typer.echo(json.dumps(as_dict(trace, folder), ensure_ascii=False))
    else:
        typer.echo(summary(trace, folder, finished is not None))


@dataclass(frozen=True)
class Request:
    """What is asked for: a prompt, the models' names by role, and how to search."""

    prompt: str
    names: dict[str, str]
    strategy: str
    n: int
    seed: int
    stopping: dict[str, Any]
    precision: str | None

    def weights(self) -> dict[str, str]:
        """SHA-256 of the weights of models that are on disk; UsageError for a name that no model has."""
        from imagecot import models

        found: dict[str, str] = {}
        for role, name in self.names.items():
            if models.locate(name) is None and name.count("/") != 1:
                known = models.known("verifier" if role == "verifier" else "generator")
                raise nearest(role, name, known, ", or give a folder or another hub id")
            found |= models.weights_of(role, name)
        return found

    def finished_in(self, folder: Path, weights: dict[str, str]) -> "Trace | None":
        """The finished trace of this run without loading a model; UsageError where the folder is taken."""
        from imagecot.strategies.folder import open_folder

        identity: dict[str, Any] = {
            "prompt": self.prompt,
            "strategy": self.strategy,
            "generator": self.names["generator"],
            "verifier": self.names.get("verifier"),
            "n": 1 if self.strategy == "single" else self.n,
            "seed": self.seed,
            "weights": weights,
        }
        finished = open_folder(folder, identity)
        if finished is not None:
            for setting, asked in {**self.stopping, "precision": self.precision}.items():
                there = finished.settings.get(setting, PAPER.get(setting))
                if asked is not None and there != asked:
                    raise UsageError(
                        f"{folder} holds another run ({setting} {there}, not {asked}); choose another folder."
                    )
        return finished


def _open(request: Request, weights: dict[str, str], out: Path | None) -> "tuple[Path, Trace | None]":
    """The folder to write to, and the trace of this run where it is finished there.

    Where no folder is given it is named after day and prompt, with a number behind where others took the name.
    """
    if out is not None:
        return out, request.finished_in(out, weights)
    default = Path("runs") / f"{datetime.date.today()}-{slug(request.prompt)}"
    for number in range(1, _MOST_NAMESAKES):
        folder = default if number == 1 else default.with_name(f"{default.name}-{number}")
        try:
            return folder, request.finished_in(folder, weights)
        except UsageError:
            continue
    raise UsageError(f"{default} and {_MOST_NAMESAKES - 2} more of its name are taken; give a folder with --out.")


def _run(request: Request, weights: dict[str, str], folder: Path) -> "Trace":
    """Load the models and search."""
    names = request.names
    with waiting("loading the models"):
        from imagecot.generators import load_generator
        from imagecot.verifiers import load_verifier

        generator = load_generator(names["generator"], dtype=request.precision)
        verifier = load_verifier(names["verifier"], dtype=request.precision) if "verifier" in names else None
        corrector = load_generator(names["corrector"], dtype=request.precision) if "corrector" in names else None
    warn_of_unknown_words(request.prompt, names["generator"])
    with progress_bar("drawing") as progress:
        return search(
            request.prompt,
            generator=generator,
            verifier=verifier,
            strategy=request.strategy,
            n=request.n,
            seed=request.seed,
            **request.stopping,
            corrector=corrector,
            progress=progress,
            folder=folder,
            names=names,
            weights=weights,
        )


def warn_of_unknown_words(prompt: str, generator: str) -> None:
    """Name on standard error the words that the generator was not trained on."""
    from imagecot import models

    words = models.known_words(generator)
    unknown = unknown_words(prompt, words) if words is not None else []
    if unknown:
        say(f"warning: {generator} does not know {', '.join(unknown)}; the image may leave that out.")


def unknown_words(prompt: str, known: frozenset[str]) -> list[str]:
    """Return the words of a prompt that are not among the known ones, each once, in order."""
    words = re.findall(r"\w+(?:['’-]\w+)*", prompt.lower())
    return [word for word in dict.fromkeys(words) if word not in known]


def slug(prompt: str) -> str:
    """Return a folder name made of the prompt's words."""
    return re.sub(r"[\W_]+", "-", prompt.lower()).strip("-")[:48].strip("-") or "prompt"


def summary(trace: "Trace", folder: Path, again: bool = False) -> str:
    """Return the line that `generate` prints."""
    choice, cost = trace.choice, trace.cost
    verdict = f", P(yes) {choice.score:.2f}" if choice.score is not None else ""
    rounds = f"{len(trace.rounds)} round{'s' * (len(trace.rounds) > 1)} of reflection; " if trace.rounds else ""
    return (
        f"path {trace.chosen + 1} chosen{verdict}; {trace.kept} of {len(trace.candidates)} paths kept; {rounds}"
        f"{cost.seconds:.1f} s, {cost.generator_rows} generator rows, {cost.previews} previews, "
        f"{cost.judge_calls} judge calls{' (finished before)' if again else ''}: "
        f"{folder}/image.png, steps.png"
    )


def as_dict(trace: "Trace", folder: Path) -> dict[str, Any]:
    """Return what `generate --json` prints."""
    return {
        **trace.identity,
        "image": str(folder / "image.png"),
        "steps_picture": str(folder / "steps.png"),
        "trace": str(folder / "trace.jsonl"),
        "chosen": {"path": trace.chosen + 1, "seed": trace.choice.seed, "p_yes": trace.choice.score},
        "kept": trace.kept,
        "rounds": [asdict(round) for round in trace.rounds],
        "cost": asdict(trace.cost),
        "picture_cost": asdict(trace.picture_cost),
    }
