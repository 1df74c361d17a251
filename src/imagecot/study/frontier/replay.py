"""Every search at every budget on a prompt's pool, in several orders of its paths.

A search is carried out as ever; its generator looks the pool's paths up instead of drawing them, and its verifier is
asked each thing once. So what it chooses, and the rows, previews and judge calls that it takes, are its own. What a
search draws beyond the pool, such as forks, the generator draws. As that takes its time, a row that is seen on fewer
prompts than others takes the paths in one order.

A search that asks about final images alone needs neither codes nor images: it is carried out on what was said of each
(`strategies/replay.py`), so that it can take the paths in many orders.
"""

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from imagecot import guard
from imagecot.contracts.metadata import Metadata
from imagecot.contracts.questions import ORM
from imagecot.contracts.randomness import path_seeds, prompt_seed
from imagecot.contracts.search import Cost
from imagecot.contracts.verifier import recorded
from imagecot.strategies import replay as numbers
from imagecot.strategies.search import carry_out
from imagecot.strategies.trace import Trace
from imagecot.study.frontier.pools import Pool
from imagecot.study.frontier.remembered import Remembered
from imagecot.study.frontier.rows import Mean, Replayed
from imagecot.study.models import Judges, Models
from imagecot.study.recipe import RowRecipe
from imagecot.study.recorded import Recorded


@dataclass
class Desk:
    """A prompt with its pool, on which searches are carried out.

    seed  of the study
    """

    metadata: Metadata
    pool: Pool
    models: Models
    judges: Judges
    seed: int

    def __post_init__(self) -> None:
        self.recorded = self.pool.recorded(self.models.generator)
        remembered = {name: Remembered(verifier) for name, verifier in self.models.verifiers.items()}
        self.models = replace(self.models, verifiers=remembered)

    @torch.no_grad()
    def outcomes(self, number: int, of: str, row: RowRecipe, sizes: Sequence[int], orders: int) -> Replayed:
        """What a row makes of the prompt with each number of paths, on average over so many orders of them."""
        began = time.time()
        if row.verifier and row.how.asks_of_images_alone:
            final, calls = self._final(row.verifier)
            found = {str(n): self._of_numbers(row, n, orders, final, calls) for n in sizes}
        else:
            found = {str(n): self._mean(row, n, orders) for n in sizes}
        return Replayed(number=number, of=of, by_n=found, began=began, ended=time.time())

    def _mean(self, row: RowRecipe, n: int, orders: int) -> Mean:
        right: list[Sequence[bool]] = []
        costs: list[Cost] = []
        for seed, order in self._shuffled(orders):
            recorded = self._under(seed, order)
            request = replace(self.models, generator=recorded).request(self.metadata.prompt, row, n, seed)
            trace = carry_out(request)
            costs.append(trace.cost)
            drew = recorded.drew
            right.append(self.judges.right(trace.image, self.metadata) if drew else self._verdicts(trace, order))
        return Mean.of(right, costs)

    def _final(self, verifier: str) -> tuple[list[float], int]:
        """P(yes) of the final image of each path, and how many answers of a verifier, or of its parts, make one."""
        judge, images = self.models.verifiers[verifier], self.recorded.images
        before = judge.usage
        said = guard.ask(judge, images, [self.metadata.prompt], ORM)
        return [recorded(p) for p in said.tolist()], guard.usage(judge, before).judge_calls // len(images)

    def _of_numbers(self, row: RowRecipe, n: int, orders: int, final: Sequence[float], calls: int) -> Mean:
        """The same as `_mean` of a search that asks about final images alone, with what was said of each."""
        of, how = numbers.Recorded(self.recorded.steps, final, {}), row.how
        right: list[Sequence[bool]] = []
        costs: list[Cost] = []
        for _, order in self._shuffled(orders):
            taken, spent = numbers.replay(how.strategy, how.settings, of, order[: how.paths(n)])
            right.append(self.pool.correct[:, taken].tolist())
            items = spent.items
            rows = items[numbers.STEP] * self.recorded.rows_per_path
            costs.append(Cost(generator_rows=rows, previews=items[numbers.DECODE], judge_calls=calls * items[ORM.name]))
        return Mean.of(right, costs)

    def _shuffled(self, count: int) -> Iterator[tuple[int, list[int]]]:
        """Seeds of searches with the rows of the pool that their paths are, the pool's own order first."""
        seed, rows = prompt_seed(self.seed, self.metadata.prompt), list(range(len(self.pool.seeds)))
        for k in range(count):
            yield seed + k, rows if k == 0 else random.Random(seed + k).sample(rows, len(rows))

    def _under(self, seed: int, order: Sequence[int]) -> Recorded:
        return self.recorded.under(path_seeds(seed, len(order)).tolist(), order)

    def _verdicts(self, trace: Trace, order: Sequence[int]) -> Sequence[bool]:
        """Each judge's verdict on the path that was chosen, which the pool has."""
        known: Mapping[int, int] = dict(zip(path_seeds(trace.seed, len(order)).tolist(), order, strict=True))
        verdicts: Sequence[bool] = self.pool.correct[:, known[trace.choice.seed]].tolist()
        return verdicts
