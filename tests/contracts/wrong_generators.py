"""Generators that break one rule each: what the checks are proved by.

Every class says in its name or in a line what is wrong with it; all else is as in the right toys.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from contracts.wrong_capabilities import CAPABILITIES
from imagecot.checks.toys import ToyGenerator
from imagecot.contracts.paths import UNDECIDED, Paths


class LacksDecode:
    steps, rows_per_path, paths_per_pass, canvas = 4, 1, 3, ToyGenerator.canvas
    settings: ClassVar[dict[str, object]] = {}
    start, resume, advance, preview = (
        getattr(ToyGenerator, name) for name in ("start", "resume", "advance", "preview")
    )


class CountsNothing(ToyGenerator):
    rows_per_path = 0


class SaysTooManySteps(ToyGenerator):
    def start(self, prompts: list[str], seeds: Tensor) -> Paths:
        return replace(super().start(prompts, seeds), steps=5)


class DrawsInSmallNumbers(ToyGenerator):
    def advance(self, paths: Paths) -> Paths:
        paths = super().advance(paths)
        return replace(paths, codes=paths.codes.int())


class BeginsWithCodes(ToyGenerator):
    def start(self, prompts: list[str], seeds: Tensor) -> Paths:
        paths = super().start(prompts, seeds)
        return replace(paths, codes=torch.zeros_like(paths.codes))


class ForgetsSeeds(ToyGenerator):
    def start(self, prompts: list[str], seeds: Tensor) -> Paths:
        return super().start(prompts, seeds.flip(0))


class LeavesACodeOut(ToyGenerator):
    def advance(self, paths: Paths) -> Paths:
        paths = super().advance(paths)
        codes = paths.codes.clone()
        codes[:, -1] = UNDECIDED
        return replace(paths, codes=codes)


class DrawsForeignCodes(ToyGenerator):
    def advance(self, paths: Paths) -> Paths:
        paths = super().advance(paths)
        return replace(paths, codes=torch.where(paths.codes == UNDECIDED, UNDECIDED, paths.codes % 16 + 16))

    def _read(self, codes: Tensor, step: int) -> Tensor:
        return super()._read(codes % 16, step)


class ShowsBytes(ToyGenerator):
    def _images(self, codes: Tensor) -> Tensor:
        return super()._images(codes) * 255


class ShowsAnotherSize(ToyGenerator):
    def _images(self, codes: Tensor) -> Tensor:
        return super()._images(codes)[:, :, :-1]


class SettingsHoldATensor(ToyGenerator):
    @property
    def settings(self) -> Mapping[str, Any]:
        return {"temperature": torch.tensor(self.temperature)}


class SettingsCountCalls(ToyGenerator):
    @property
    def settings(self) -> Mapping[str, Any]:
        return {"temperature": self.temperature, "rows": self.rows}


class DrawsByGlobalChance(ToyGenerator):
    def _row(self, paths: Paths) -> Paths:
        return super()._row(replace(paths, seeds=torch.randint(2**30, paths.seeds.shape)))


class DrawsByBatch(ToyGenerator):
    """One multinomial for the whole batch, seeded by its first path."""

    def _row(self, paths: Paths) -> Paths:
        seeds = paths.seeds[:1] + torch.arange(len(paths))
        return replace(super()._row(replace(paths, seeds=seeds)), seeds=paths.seeds)


class DrawsTheFirstPrompt(ToyGenerator):
    def start(self, prompts: list[str], seeds: Tensor) -> Paths:
        paths = super().start(prompts, seeds)
        return replace(paths, prompt_index=torch.zeros_like(paths.prompt_index))


class SplitsWithTheSameSeeds(ToyGenerator):
    """Each part of a large batch is drawn under the seeds of the first."""

    def advance(self, paths: Paths) -> Paths:
        size = self.paths_per_pass
        seeds = torch.cat([paths.seeds[:size]] * (len(paths) // size + 1))[: len(paths)]
        return replace(super().advance(replace(paths, seeds=seeds)), seeds=paths.seeds)


class TellsTwinsApart(ToyGenerator):
    """Forks under the same seed are made to differ."""

    def advance(self, paths: Paths) -> Paths:
        seeds = [seed + paths.seeds.tolist()[:k].count(seed) for k, seed in enumerate(paths.seeds.tolist())]
        return replace(super().advance(replace(paths, seeds=torch.tensor(seeds))), seeds=paths.seeds)


class KeepsTheFirstSeeds(ToyGenerator):
    """The seeds that paths were started with are their own, whatever seeds forks are given."""

    def start(self, prompts: list[str], seeds: Tensor) -> Paths:
        paths = super().start(prompts, seeds)
        return replace(paths, own={"cache": paths.own["cache"], "seeds": seeds})

    def resume(self, prompts: list[str], seeds: Tensor, codes: Tensor, step: int) -> Paths:
        paths = super().resume(prompts, seeds, codes, step)
        return replace(paths, own={"cache": paths.own["cache"], "seeds": seeds})

    def advance(self, paths: Paths) -> Paths:
        after = super().advance(replace(paths, seeds=paths.own["seeds"]))
        return replace(after, seeds=paths.seeds, own={"cache": after.own["cache"], "seeds": paths.own["seeds"]})


class CachesInShared(ToyGenerator):
    """The cache of all paths lies in `shared`, in the order that they were started in."""

    def start(self, prompts: list[str], seeds: Tensor) -> Paths:
        return self._sharing(super().start(prompts, seeds))

    def resume(self, prompts: list[str], seeds: Tensor, codes: Tensor, step: int) -> Paths:
        paths = super().start(prompts, seeds)
        own = {"cache": self._read(codes, step)}
        return self._sharing(replace(paths, codes=codes, step=step, own=own))

    def advance(self, paths: Paths) -> Paths:
        shared, cache = paths.shared
        rows = torch.arange(len(paths)) % len(cache)
        return self._sharing(super().advance(replace(paths, shared=shared, own={"cache": cache[rows]})))

    def _sharing(self, paths: Paths) -> Paths:
        return replace(paths, shared=(paths.shared, paths.own["cache"]), own=None)


class CachesOnItself(CachesInShared):
    """As one that keeps its cache in an attribute: the paths that were advanced last have it."""

    def _sharing(self, paths: Paths) -> Paths:
        self.cache = paths.own["cache"]
        return replace(paths, own=None)

    def advance(self, paths: Paths) -> Paths:
        rows = torch.arange(len(paths)) % len(self.cache)
        return self._sharing(ToyGenerator.advance(self, replace(paths, own={"cache": self.cache[rows]})))


class ResumesWithoutCache(ToyGenerator):
    def resume(self, prompts: list[str], seeds: Tensor, codes: Tensor, step: int) -> Paths:
        return replace(self.start(prompts, seeds), codes=codes, step=step)

    def _row(self, paths: Paths) -> Paths:
        after = super()._row(paths)
        cache = paths.own["cache"].clone()
        cache[:, paths.step] = after.own["cache"][:, paths.step]
        return replace(after, own={"cache": cache})


class ShowsNothingOfTheResumed(ToyGenerator):
    """A path that was entered again is shown as an empty canvas until its next step."""

    def start(self, prompts: list[str], seeds: Tensor) -> Paths:
        paths = super().start(prompts, seeds)
        return replace(paths, own={**paths.own, "blank": torch.zeros(len(seeds))})

    def resume(self, prompts: list[str], seeds: Tensor, codes: Tensor, step: int) -> Paths:
        paths = super().resume(prompts, seeds, codes, step)
        return replace(paths, own={**paths.own, "blank": torch.ones(len(seeds))})

    def advance(self, paths: Paths) -> Paths:
        after = super().advance(paths)
        return replace(after, own={**after.own, "blank": torch.zeros(len(after))})

    def preview(self, paths: Paths) -> Tensor:
        return super().preview(paths) * (1 - paths.own["blank"].view(-1, 1, 1, 1))


class WritesInPlace(ToyGenerator):
    def advance(self, paths: Paths) -> Paths:
        after = super().advance(paths)
        paths.codes.copy_(after.codes)
        return replace(after, codes=paths.codes)


class RemembersPaths(ToyGenerator):
    """How often a path was advanced is kept by its seed, on the generator."""

    def start(self, prompts: list[str], seeds: Tensor) -> Paths:
        self.advanced = dict.fromkeys(seeds.tolist(), 0)
        return super().start(prompts, seeds)

    def resume(self, prompts: list[str], seeds: Tensor, codes: Tensor, step: int) -> Paths:
        paths = super().resume(prompts, seeds, codes, step)
        self.advanced = dict.fromkeys(seeds.tolist(), step)
        return paths

    def advance(self, paths: Paths) -> Paths:
        seeds = [seed + self.advanced.get(seed, paths.step) for seed in paths.seeds.tolist()]
        for seed in set(paths.seeds.tolist()):
            self.advanced[seed] = self.advanced.get(seed, paths.step) + 1
        return replace(super().advance(replace(paths, seeds=torch.tensor(seeds))), seeds=paths.seeds)


class PreviewsDraw(ToyGenerator):
    """A preview leaves its mark in the cache of its paths."""

    def preview(self, paths: Paths) -> Tensor:
        paths.own["cache"] += 0.5
        return super().preview(paths)


class PreviewsStretchTheBatch(ToyGenerator):
    """The brightest pixel of the batch becomes white while paths are not finished."""

    def preview(self, paths: Paths) -> Tensor:
        images = super().preview(paths)
        return images if paths.finished else images / images.max().clamp(min=1e-3)


class LastPreviewIsBrighter(ToyGenerator):
    def preview(self, paths: Paths) -> Tensor:
        return super().preview(paths) * 0.5 + 0.5


class DrawsOnAndOn(ToyGenerator):
    def advance(self, paths: Paths) -> Paths:
        return paths if paths.finished else super().advance(paths)


@dataclass
class HidesItsTemperature(ToyGenerator):
    @property
    def settings(self) -> Mapping[str, Any]:
        return {}


GENERATORS: dict[type, str | tuple[str, ...]] = {
    LacksDecode: "it has everything",
    CountsNothing: "costs and sizes can be",
    SaysTooManySteps: "it draws in its steps",
    DrawsInSmallNumbers: "it draws in its steps",
    BeginsWithCodes: "it draws in its steps",
    ForgetsSeeds: "it draws in its steps",
    LeavesACodeOut: "codes are of the canvas",
    DrawsForeignCodes: "codes are of the canvas",
    ShowsBytes: "images are of the canvas",
    ShowsAnotherSize: "images are of the canvas",
    SettingsHoldATensor: "settings are json and stay",
    SettingsCountCalls: "settings are json and stay",
    DrawsByGlobalChance: "the same seed draws the same",
    DrawsByBatch: "a path is the same in any batch",
    DrawsTheFirstPrompt: "prompts can be mixed",
    SplitsWithTheSameSeeds: "micro batches change nothing",
    TellsTwinsApart: "a fork goes on as its path",
    KeepsTheFirstSeeds: "forks follow their new seeds",
    CachesInShared: "paths can be selected",
    # What a generator keeps of paths on itself is lost when they are reordered and when older ones are taken up.
    CachesOnItself: ("paths can be selected", "older paths can be taken up"),
    ResumesWithoutCache: "paths can be resumed",
    ShowsNothingOfTheResumed: "resumed paths show what they showed",
    WritesInPlace: "older paths can be taken up",
    RemembersPaths: "older paths can be taken up",
    PreviewsDraw: "previews change nothing",
    PreviewsStretchTheBatch: "previews belong to their paths",
    LastPreviewIsBrighter: "the last preview is the image",
    DrawsOnAndOn: "no step follows the last",
    HidesItsTemperature: "settings name what changes images",
    **CAPABILITIES,
}
