"""How much faster many workers are, simulated: `python -m imagecot.planning.growth --out FOLDER`.

The work is the paper's curation, 50 images of each of 13,000 prompts, drawn by Janus-Pro 7B on H100s, and ten times as
many prompts. It writes a table of the share of all cards' time that goes into units, and a picture of the growth.
"""

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagecot import figures
from imagecot.curation.recipes import CurateOrm
from imagecot.errors import ImagecotError
from imagecot.files import make_folder, write_text
from imagecot.planning.costs import BYTES, Effort
from imagecot.planning.estimate import effort
from imagecot.planning.plan import DISK, MACHINE, START
from imagecot.planning.rates import CARDS, Rates
from imagecot.planning.simulation import OWN, Camp, Stage, Trouble, simulate

WORKERS = (64, 128, 256, 512, 1000)
SEEDS = 3
_GENERATOR, _IMAGES = "deepseek-community/Janus-Pro-7B", 50
QUIET = Trouble(spread=0.3)
ROUGH = Trouble(failures=1 / 20, slow=0.05, slowness=2.0, spread=0.3, preempted=1 / 24)


@dataclass(frozen=True)
class Case:
    """What is simulated: prompts, what goes wrong, and cards that draw for each that serves a judge, if any."""

    name: str
    prompts: int
    trouble: Trouble
    each_judge: int = 0


CASES = (
    Case("13,000 prompts, nothing fails", 13_000, QUIET),
    Case("13,000 prompts, rough", 13_000, ROUGH),
    Case("130,000 prompts, nothing fails", 130_000, QUIET),
    Case("130,000 prompts, rough", 130_000, ROUGH),
    Case("130,000 prompts, rough, served judges", 130_000, ROUGH, each_judge=4),
)


@dataclass(frozen=True)
class Share:
    """The share of time that goes into units, and hours: means and standard deviations over seeds."""

    hours: float
    share: float
    deviation: float


def work(prompts: int) -> Effort:
    """The effort of a curation of so many prompts on one H100."""
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "prompts.jsonl"
        file.write_text('{"prompt": "a cup"}\n' * prompts)
        asked = CurateOrm(
            prompts=file, output=Path(place) / "out", generator=_GENERATOR, paths=_IMAGES, detector="mask2former"
        )
        found = effort(asked, Rates(CARDS["h100"]))
    if found is None:
        raise ImagecotError(f"nothing is known of {_GENERATOR}.")
    return found


def camp(case: Case, found: Effort, workers: int, seed: int) -> Camp:
    """So many workers on the units of a case; a judge serves as long as its share of the cards allows."""
    seconds = found.seconds / found.units
    unit, pools = [Stage(OWN, seconds)], {}
    if case.each_judge:
        # Judges are in use for nine tenths of the time, which is as full as a queue should be.
        unit.append(Stage("judges", 0.9 * seconds / (case.each_judge - 0.9)))
        pools["judges"] = max(1, workers // case.each_judge)
    load = [Stage(OWN, START), Stage("disk", BYTES * found.loaded / MACHINE / DISK)]
    return Camp(workers, [unit] * found.units, load, pools | {"disk": 1}, case.trouble, seed=seed)


def growth(workers: Sequence[int] = WORKERS, seeds: int = SEEDS) -> dict[str, dict[int, Share]]:
    """The shares of all cases, by name and number of workers."""
    efforts = {case.prompts: work(case.prompts) for case in CASES}
    found: dict[str, dict[int, Share]] = {}
    for case in CASES:
        for count in workers:
            runs = [simulate(camp(case, efforts[case.prompts], count, seed)) for seed in range(seeds)]
            shares = [run.efficiency(count) for run in runs]
            spread = statistics.stdev(shares) if seeds > 1 else 0.0
            hours = statistics.mean(run.seconds for run in runs) / 3600
            found.setdefault(case.name, {})[count] = Share(hours, statistics.mean(shares), spread)
    return found


def table(found: Mapping[str, Mapping[int, Share]]) -> str:
    """A table in Markdown: hours, and the share of time in units with its standard deviation."""
    counts = [*next(iter(found.values()))]
    lines = ["| case | " + " | ".join(f"{count:,}" for count in counts) + " |", "|---|" + "---|" * len(counts)]
    for name, row in found.items():
        cells = [f"{one.hours:.2f} h, {one.share:.1%} ± {one.deviation:.1%}" for one in row.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(found: Mapping[str, Mapping[int, Share]], file: Path) -> None:
    """A picture of the growth: as how many workers without any loss so many are."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4))
    axis = figure.subplots()
    for name, row in found.items():
        axis.plot([*row], [count * one.share for count, one in row.items()], "o-", ms=3, lw=1, label=name)
    counts = [*next(iter(found.values()))]
    axis.plot(counts, counts, "k:", lw=1, label="without loss")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("workers")
    axis.set_ylabel("workers without loss")
    axis.legend(fontsize=7)
    figures.save(figure, file, dpi=110)


def _main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--out", type=Path, required=True)
    out = make_folder(asked.parse_args().out)
    found = growth()
    write_text(out / "growth.md", table(found))
    draw(found, out / "growth.png")
    print(table(found), end="")


if __name__ == "__main__":
    _main()
