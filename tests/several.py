"""Trainings of small models by several processes, as `torchrun` starts them on this machine."""

import csv
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import multiprocess  # which sends functions without a name, too
import torch

from imagecot.curation.dataset import RankingData, ranking_row
from imagecot.curation.pairs import write_pairs
from imagecot.curation.schema import PairRow
from imagecot.geneval.prompts import OBJECT_NAMES, single_object_metadata
from imagecot.images import png

TESTS = Path(__file__).parent
PROMPTS = ["a photo of a red apple", "a photo of a bench", "a red bench", "an apple"]
PAIRS = {
    "batch_size": 8, "learning_rate": 1e-3, "draws": 1, "held_out": 0.2, "pictures": 0, "evaluate_every": 100,
    "save_every": 100, "steps": 20,
}  # fmt: skip
ROWS = {
    "batch_size": 8, "learning_rate": 3e-3, "vision_learning_rate": 1e-3, "held_out": 0.2, "evaluate_every": 100,
    "save_every": 100, "shift": 2,
}  # fmt: skip
LORA = {"r": 4, "alpha": 8}


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "PYTHONPATH": str(TESTS), **more}


def torchrun(world: int, *arguments: str) -> list[str]:
    """The command that starts `imagecot` with these arguments in so many processes."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={world}", "-m"]
    return [*start, "imagecot", *arguments]


def forked(world: int, work: Callable[[], object]) -> None:
    """Let so many new processes do `work`, as if a launcher had started them.

    They are no copies of this one: torch refuses gradients in a copy of a process that has computed some.
    """
    members = started(world, work)
    for one in members:
        one.join(timeout=900)
    for one in members:
        one.kill()
        one.join()
    assert [one.exitcode for one in members] == [0] * world


def started(world: int, work: Callable[[], object]) -> list[Any]:
    """These processes, which work."""
    port, context = free_port(), multiprocess.get_context("spawn")
    members = [context.Process(target=_do, args=(rank, world, port, work)) for rank in range(world)]
    for one in members:
        one.start()
    return members


def told(rank: int, world: int, port: int) -> dict[str, str]:
    """What a launcher tells."""
    who = {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(world)}
    return who | {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}


def _do(rank: int, world: int, port: int, work: Callable[[], object]) -> None:
    torch.set_num_threads(1)
    if world > 1:
        os.environ.update(told(rank, world, port), OMP_NUM_THREADS="1")
    work()


def pairs_in(folder: Path) -> Path:
    """Pairs whose chosen images have codes below 32, the rejected ones the others."""
    draw = torch.Generator().manual_seed(0)
    rows = []
    for k in range(40):
        low, high = torch.randint(32, (2, 16), generator=draw)
        picture = torch.rand(3, 16, 16, generator=draw)
        images, codes = (png(picture), png(1 - picture)), (low.tolist(), (high + 32).tolist())
        rows.append(PairRow(str(k), f"{PROMPTS[k % 4]} {k // 4}", "single_object", "{}", k, k, *images, *codes))
    write_pairs(folder, rows, {})
    return folder


def rows_in(folder: Path) -> Path:
    """Bright pictures are right, dark ones wrong."""
    draw = torch.Generator().manual_seed(0)
    rows = []
    for k, name in enumerate(OBJECT_NAMES[:40]):
        for right in (True, False):
            image = torch.full((3, 28, 28), 0.9 if right else 0.1) + 0.02 * torch.rand(3, 28, 28, generator=draw)
            place = {"step": 18, "steps": 18, "seed": 2 * k + right}
            rows.append(ranking_row(single_object_metadata(name), "orm", image, **place, label=right))
    RankingData(folder, {}).keep(0, rows)
    return folder


def prompts_in(folder: Path) -> Path:
    file = folder / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS))
    return file


def write_recipe(file: Path, values: dict[str, object]) -> Path:
    file.write_text(json.dumps(values, default=str))  # which is YAML, too
    return file


def curve(folder: Path, name: str) -> list[float]:
    with (folder / "training/curves.csv").open() as file:
        return [float(value) for _, n, value in list(csv.reader(file))[1:] if n == name]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        port: int = found.getsockname()[1]
        return port


def member(rank: int, world: int, port: int, recipe: Path, *changes: str, first: str = "") -> "subprocess.Popen[str]":
    """One of so many processes of a training, as a launcher starts it that ends nobody; `first` is run before."""
    begin = f"import sys; from imagecot import peers; {first or 'pass'}; from imagecot.cli import main; main()"
    command = [sys.executable, "-c", begin, "train", str(recipe), *changes]
    return subprocess.Popen(command, env=environment(**told(rank, world, port)), stderr=subprocess.PIPE, text=True)
