"""Pools of paths on disk: the codes of every step, so that any search can be carried out on them later.

A pool depends on its generator, the seed and the prompt alone, and what the judges say of it on them. So pools stay
where rows are added or their settings change.
"""

import io
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from imagecot.contracts.generator import Generator
from imagecot.contracts.metadata import Metadata
from imagecot.contracts.paths import Paths
from imagecot.contracts.randomness import path_seeds, prompt_seed
from imagecot.errors import ImagecotError
from imagecot.files import make_own_folder, write_whole
from imagecot.identity import Identity, claim, refuse_occupied
from imagecot.reading import read_bytes
from imagecot.study.models import Judges
from imagecot.study.recorded import Recorded, record

POOL = "pools.json"  # which pools a folder holds
ADVICE = "delete it, and the same command draws it again"


@dataclass(frozen=True, eq=False)
class Pool:
    """The recorded paths of a prompt.

    codes, own    (steps + 1, paths, codes) what was drawn, and what was shown, after each step from 0 on
    seeds         (paths,)
    correct       (judges, paths) what each judge says of the final images
    began, ended  seconds since 1970
    """

    prompt: str
    codes: NDArray[np.int32]
    own: NDArray[np.int32]
    seeds: NDArray[np.int64]
    correct: NDArray[np.bool_]
    began: float
    ended: float

    def recorded(self, generator: Generator) -> Recorded:
        """The recording that stands for the generator; what it shows is decoded once."""
        last, seeds = len(self.codes) - 1, torch.from_numpy(self.seeds)
        states = [
            Paths(
                codes=torch.from_numpy(codes.astype(np.int64)),
                seeds=seeds,
                prompt_index=torch.zeros_like(seeds),
                step=step,
                steps=last,
                own=torch.from_numpy(own.astype(np.int64)) if step else None,
            )
            for step, (codes, own) in enumerate(zip(self.codes, self.own, strict=True))
        ]
        return Recorded(generator, self.prompt, states, looked={})


@dataclass(frozen=True)
class Pools:
    """A folder of pools, one a prompt, all of one generator and seed; `identity` says which."""

    folder: Path
    identity: Identity

    def check(self) -> None:
        """Raise UsageError where the folder holds other pools; nothing is written."""
        refuse_occupied(self.folder / POOL, self.identity, "pools")

    def has(self, number: int) -> bool:
        """Whether the pool of a prompt is there."""
        return self._file(number).is_file()

    def keep(self, number: int, pool: Pool) -> None:
        """Write a pool."""
        make_own_folder(self.folder)
        claim(self.folder / POOL, self.identity, "pools")
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **{name: np.array(value) for name, value in vars(pool).items()})
        write_whole(self._file(number), buffer.getvalue())

    def read(self, number: int, prompt: str) -> Pool:
        """The pool of a prompt; ImagecotError where it is damaged or of another prompt."""
        file = self._file(number)
        data = read_bytes(file, advice=ADVICE)
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as held:
                pool = _pool(held)
        except (ValueError, KeyError, TypeError, OSError, EOFError, BadZipFile) as error:
            raise ImagecotError(f"{file} holds no pool ({str(error)[:200]}); {ADVICE}.") from None
        if pool.prompt != prompt:
            raise ImagecotError(f"{file} holds the pool of another prompt ({pool.prompt[:60]!r}); {ADVICE}.")
        return pool

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:05d}.npz"


def _pool(held: Mapping[str, NDArray[np.generic]]) -> Pool:
    """The pool that a file holds; ValueError where its parts do not fit."""
    codes, own, seeds, correct = (held[name] for name in ("codes", "own", "seeds", "correct"))
    paths = len(seeds)
    if codes.ndim != 3 or own.shape != codes.shape or codes.shape[1] != paths:
        raise ValueError("codes are not of one number of paths")
    if correct.ndim != 2 or correct.shape[1] != paths or correct.dtype != bool:
        raise ValueError("correct is not a verdict a judge and path")
    if any(array.dtype.kind != "i" for array in (codes, own, seeds)):
        raise ValueError("codes and seeds are no whole numbers")
    return Pool(
        prompt=str(held["prompt"]),
        codes=codes.astype(np.int32),
        own=own.astype(np.int32),
        seeds=seeds.astype(np.int64),
        correct=correct.astype(np.bool_),
        began=float(held["began"]),
        ended=float(held["ended"]),
    )


@torch.no_grad()
def drawn(generator: Generator, judges: Judges, metadata: Metadata, paths: int, seed: int) -> Pool:
    """Draw the pool of a prompt, and let the judges look at its images."""
    began = time.time()
    recorded = record(generator, metadata.prompt, path_seeds(prompt_seed(seed, metadata.prompt), paths))
    states = [replace(state, own=state.codes if state.own is None else state.own) for state in recorded.states]
    verdicts = judges.look(recorded.images, metadata)
    return Pool(
        prompt=metadata.prompt,
        codes=torch.stack([state.codes for state in states]).to("cpu", torch.int32).numpy(),
        own=torch.stack([state.own for state in states]).to("cpu", torch.int32).numpy(),
        seeds=states[0].seeds.cpu().numpy(),
        correct=np.array([[verdict.correct for verdict in found] for found in verdicts]),
        began=began,
        ended=time.time(),
    )
