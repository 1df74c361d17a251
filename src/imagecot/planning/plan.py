"""What a recipe takes on so many cards: hours, storage, memory, and what the rest will wait for.

The seconds of each model are those of `planning.estimate`, at `planning.rates`. Work in units is simulated with all its
workers (`planning.simulation`), so that loading, the last units and what goes wrong count; a training is its gradients
shared by all processes, and the sums of these.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pydantic import BaseModel

from imagecot.errors import UsageError
from imagecot.planning.costs import BYTES, Effort
from imagecot.planning.estimate import effort
from imagecot.planning.rates import Rates
from imagecot.planning.simulation import OWN, Camp, Stage, Trouble, simulate
from imagecot.recipes import kind_of

# What is taken of a cluster, none of it measured here.
TROUBLE = Trouble(failures=1 / 1000, slow=0.02, slowness=2.0, spread=0.3)
START = 20.0  # seconds until a worker reads weights
DISK = 10e9  # bytes a second of the folder that all share
MACHINE = 8  # workers that read weights from the disk once
LINK = 50e9  # bytes a second between cards, for sums of gradients
PIXEL = 1.7  # bytes of a PNG of a photo
_CODE = 2.5  # bytes of a code in a study's rows
_JUDGES, _DISK = "judges", "disk"


@dataclass(frozen=True)
class Plan:
    """What following a recipe takes; hours and bytes.

    hours    with all cards, as they come
    ideal    of the models alone, shared without rest
    parts    hours of one card by what takes them
    units    of work, or steps of a training
    workers  that take part
    storage  that is left on disk
    memory   of a card, activations aside
    waits    what the rest waits for, in words
    notes    what is to be said beside, a line each
    """

    kind: str
    what: str
    gpus: int
    workers: int
    hours: float
    ideal: float
    parts: Mapping[str, float]
    units: int
    storage: float
    memory: float
    waits: str
    rates: list[str]
    notes: list[str]


def plan(recipe: BaseModel, gpus: int, rates: Rates, *, judges: int = 0, seed: int = 0) -> Plan:
    """Plan a recipe for so many cards, of which `judges` serve the verifier and no worker.

    UsageError where nothing is known of its models, or no card is left to draw.
    """
    found = effort(recipe, rates)
    if found is None:
        raise UsageError(
            f"nothing is known of how long this {kind_of(recipe)} takes: its models are neither full-size nor measured "
            "here; measure them by imagecot benchmark and give its benchmark.json by --rates."
        )
    if judges >= gpus:
        raise UsageError(f"{judges} of {gpus} cards serve the judge, so none is left to draw; give fewer --judges.")
    if judges and not found.judged:
        raise UsageError("nobody judges in this recipe; leave out --judges.")
    if found.steps:
        planned = _training(found, gpus, _shards(recipe))
    else:
        planned = _in_units(found, gpus - judges, judges, seed)
        # Generators split what does not fit into half of what the weights leave.
        free = max(0.0, rates.card.memory - planned.memory)
        planned = replace(planned, memory=planned.memory + min(found.cached, free / 2))
    over = f"{planned.memory / 1e9:.0f} GB do not fit {rates.card.name}'s {rates.card.memory / 1e9:.0f} GB"
    notes = [*planned.notes, *([over] if planned.memory > rates.card.memory else [])]
    return replace(planned, kind=kind_of(recipe), gpus=gpus, rates=rates.told(), notes=notes)


def _parts(found: Effort) -> dict[str, float]:
    parts = {
        "generator": found.drawn,
        "judge": found.judged,
        "gradients": found.trained,
        "decoder": found.decoded,
        "detector": found.read,
    }
    return {name: seconds / 3600 for name, seconds in parts.items() if seconds}


def _stored(found: Effort) -> float:
    """Bytes: pictures, codes, and of a training its weights in half and its state."""
    codes = found.codes * found.pixels / 256 * _CODE
    return found.images * found.pixels * PIXEL + codes + found.trains * (BYTES + 12)


def _in_units(found: Effort, workers: int, judges: int, seed: int) -> Plan:
    units = max(1, found.units)
    own = found.drawn + found.decoded + found.read + (0.0 if judges else found.judged)
    written = _stored(found) / DISK
    stages = [Stage(OWN, own / units), Stage(_JUDGES if judges else OWN, (found.judged if judges else 0.0) / units)]
    unit = [*stages, Stage(_DISK, written / units)]
    load = [Stage(OWN, START), Stage(_DISK, BYTES * found.loaded / MACHINE / DISK)]
    pools = {_DISK: 1} | ({_JUDGES: judges} if judges else {})
    came = simulate(Camp(workers, [unit] * units, load, pools, TROUBLE, seed=seed))
    notes = [f"{came.failures} workers failed on the way, and {came.begun - units} units were begun twice"]
    if units < workers:
        notes.append(f"there are {units} units, so {workers - units} workers have nothing to do")
    parts = _parts(found)
    busiest, share = max(came.busy.items(), key=lambda pool: pool[1])
    if share > 0.8:
        waits = f"the {busiest}, in use for {share:.0%} of the time"
    elif units < 2 * workers:
        waits = f"the last units: {units} are few for {workers} workers"
    else:
        name = max(parts, key=lambda part: parts[part])
        waits = f"the {name}, {parts[name] / sum(parts.values()):.0%} of the cards' time"
    return Plan(
        kind="",
        what=found.what,
        gpus=0,
        workers=workers,
        hours=came.seconds / 3600,
        ideal=found.seconds / 3600 / (workers + judges),
        parts=parts,
        units=units,
        storage=_stored(found),
        memory=found.loaded * BYTES,
        waits=waits,
        rates=[],
        notes=notes,
    )


def _shards(recipe: BaseModel) -> bool:
    """Whether a training shares its weights out."""
    settings = dict(recipe)
    inner = settings.get("training")
    return bool(settings.get("shard", dict(inner).get("shard") if isinstance(inner, BaseModel) else False))


def _training(found: Effort, gpus: int, shards: bool) -> Plan:
    workers = max(count for count in range(1, gpus + 1) if found.shared % count == 0)
    sums = found.steps * 2 * 4 * found.trains / LINK if workers > 1 else 0.0
    if shards and workers > 1:
        sums += found.steps * 2 * 4 * (found.trains + found.whole) / LINK  # weights are put together twice
    computed = found.seconds / workers
    notes = []
    if workers < gpus:
        notes.append(f"a step of {found.shared} examples is shared by {workers} processes, so {gpus - workers} rest")
    whole = 16 * found.trains + 4 * found.whole
    memory = whole / workers if shards else whole
    if not shards and workers > 1:
        notes.append(f"with shard=true a card would hold {whole / workers / 1e9:.1f} GB")
    parts = _parts(found)
    name = max(parts, key=lambda part: parts[part])
    return Plan(
        kind="",
        what=found.what,
        gpus=0,
        workers=workers,
        hours=(computed + sums) / 3600,
        ideal=found.seconds / gpus / 3600,
        parts=parts,
        units=round(found.steps),
        storage=_stored(found),
        memory=memory,
        waits="sums of gradients between cards" if sums > computed else f"the {name}",
        rates=[],
        notes=notes,
    )
