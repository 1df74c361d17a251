"""`imagecot generate`: draw a prompt, search, and leave the image, the steps and the trace in a folder."""

import datetime
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imagecot.commands import searches
from imagecot.commands.output import completion, progress_bar, say, usable, waiting
from imagecot.errors import UsageError
from imagecot.interruption import continuing
from imagecot.precision import PRECISIONS

if TYPE_CHECKING:
    from imagecot.identity import Identity
    from imagecot.strategies.defaults import Named
    from imagecot.strategies.request import Request
    from imagecot.strategies.trace import Trace

_MOST_NAMESAKES = 1000


def generate(
    context: typer.Context,
    prompt: Annotated[str, typer.Argument(help="What to draw.", show_default=False)],
    generator: Annotated[
        str,
        typer.Option(
            help="A shipped name, a checkpoint folder, a hub id or module:Class.",
            autocompletion=completion("generator"),
        ),
    ] = "tiny-dpo",
    verifier: Annotated[
        str | None,
        typer.Option(
            help="Who judges: likewise. A shipped generator has its own for each search.",
            autocompletion=completion("verifier"),
            show_default=False,
        ),
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            "--search",
            help="Which paths live: {searches}, or module:Class. Default: what the generator's checkpoint names, of "
            "shipped ones parm.",
            autocompletion=searches.searches,
            show_default=False,
        ),
    ] = None,
    n: Annotated[int, typer.Option("-n", help="How many paths are drawn.")] = 20,
    seed: Annotated[int, typer.Option(help="The same seed draws the same paths.")] = 0,
    settings: searches.Set = None,
    corrector: searches.Corrector = None,
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

      imagecot generate "a bird left of a cup" --generator tiny-dpo --search parm++ --keep 0.5

      imagecot generate "a blue car" -n 50 --json | jq .chosen
    """
    from imagecot.bounds import check_paths, check_seed
    from imagecot.prompts import check_prompt
    from imagecot.strategies.defaults import completed

    check_prompt(prompt)
    check_paths(n)
    check_seed(seed)
    given = searches.settings_given(context, settings)
    named = completed(generator, strategy, verifier, corrector, given)
    run = Job(prompt, named, n, seed, usable(precision), named.digests())
    request = run.load() if named.known_when_loaded else None
    folder, finished = _open(run, request, out)
    default = "" if out else f" with --out {folder}"
    with continuing(f"the same command{default} continues where this run was"):
        trace = finished or _draw(request or run.load(), folder)
    if as_json:
        typer.echo(json.dumps(as_dict(trace, folder), ensure_ascii=False))
    else:
        typer.echo(summary(trace, folder, finished is not None))


@dataclass(frozen=True)
class Job:
    """What is asked for: a prompt, the search and its models by name, and SHA-256 of what they are."""

    prompt: str
    named: "Named"
    n: int
    seed: int
    precision: str | None
    weights: dict[str, str]

    @property
    def identity(self) -> "Identity":
        """What is known of the identity of the run before a model is loaded."""
        return {
            "prompt": self.prompt,
            "strategy": self.named.strategy,
            "generator": self.named.models["generator"],
            "verifier": self.named.models.get("verifier"),
            "n": self.named.paths(self.n),
            "seed": self.seed,
            "weights": self.weights,
        }

    def refuse_other(self, folder: Path, there: "Identity") -> None:
        """Raise UsageError where the run of a folder has other options, or is known to have another precision."""
        self.named.refuse_other_options(folder, there)
        had = there["settings"].get("precision", self.precision)
        if self.precision is not None and had != self.precision:
            raise UsageError(
                f"{folder} holds another run (precision {had}, not {self.precision}); choose another folder."
            )

    def load(self) -> "Request":
        """Load the models, and name the words that the generator does not know."""
        with waiting("loading the models"):
            from imagecot.strategies.defaults import load_model
            from imagecot.strategies.request import Request

            models = {role: load_model(role, name, self.precision) for role, name in self.named.models.items()}
        warn_of_unknown_words(self.prompt, self.named.models["generator"])
        return Request(
            self.prompt,
            models["generator"],
            models.get("verifier"),
            self.named.strategy,
            self.n,
            self.seed,
            self.named.given,
            models.get("corrector"),
            names=self.named.models,
            weights=self.weights,
        )


def _open(run: Job, request: "Request | None", out: Path | None) -> "tuple[Path, Trace | None]":
    """The folder to write to, and the trace of this run where it is finished there.

    Where no folder is given it is named after day and prompt, with a number behind where others took the name.
    """
    from imagecot.strategies.folder import open_folder

    def finished_in(folder: Path) -> "Trace | None":
        if request is not None:
            return open_folder(folder, request.identity)
        return open_folder(folder, run.identity, run.refuse_other)

    if out is not None:
        return out, finished_in(out)
    default = Path("runs") / f"{datetime.date.today()}-{slug(run.prompt)}"
    for number in range(1, _MOST_NAMESAKES):
        folder = default if number == 1 else default.with_name(f"{default.name}-{number}")
        try:
            return folder, finished_in(folder)
        except UsageError:
            continue
    raise UsageError(f"{default} and {_MOST_NAMESAKES - 2} more of its name are taken; give a folder with --out.")


def _draw(request: "Request", folder: Path) -> "Trace":
    """Search, and leave the trace in a folder."""
    from imagecot.strategies.search import search_in

    with progress_bar("drawing") as progress:
        return search_in(folder, request, progress)


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
