"""What a training records: losses and scores by step, as a table and as a picture."""

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path

from imagecot import figures
from imagecot.files import write_atomically
from imagecot.reading import read_text
from imagecot.training.state import refusing_damage

_HEADER = ("step", "name", "value")  # of curves.csv


class Curves:
    """Losses and scores by step, in `curves.csv` (long form) and as a picture."""

    def __init__(self, folder: Path, start: int) -> None:
        """Go on with the curves of `folder` up to the step `start`; ImagecotError where they are damaged."""
        self.path = folder / "curves.csv"
        self.rows: list[tuple[int, str, float]] = []
        if self.path.exists() and start:
            advice = "delete it; the training goes on without its earlier curves"
            text = read_text(self.path, advice=advice)
            with refusing_damage(self.path, advice):
                header, *lines = csv.reader(io.StringIO(text))
                if header != list(_HEADER):
                    raise ValueError(f"it does not begin with {','.join(_HEADER)}")
                rows = [(int(s), n, float(v)) for s, n, v in lines]
            self.rows = [row for row in rows if row[0] <= start]

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Record values of a step."""
        self.rows += [(step, name, value) for name, value in values.items()]

    def save(self) -> None:
        """Write the table and the picture."""

        def table(path: Path) -> None:
            with path.open("w", newline="") as file:
                csv.writer(file).writerows([_HEADER, *self.rows])

        write_atomically(self.path, table)
        self._draw()

    def _draw(self) -> None:
        """Write the picture, a plot for each name."""
        from matplotlib.figure import Figure

        names = list(dict.fromkeys(name for _, name, _ in self.rows))
        if not names:
            return
        columns = min(3, len(names))
        lines = math.ceil(len(names) / columns)
        figure = Figure(figsize=(4 * columns, 2.6 * lines))
        axes = figure.subplots(lines, columns, squeeze=False)
        for axis, name in zip(axes.flat, names, strict=False):
            points = [(s, v) for s, n, v in self.rows if n == name]
            axis.plot([s for s, _ in points], [v for _, v in points], lw=1)
            axis.set_title(figures.literal(name), fontsize=9)
            axis.tick_params(labelsize=7)
        for axis in list(axes.flat)[len(names) :]:
            axis.axis("off")
        figures.save(figure, self.path.with_suffix(".png"), dpi=90)


class Sums:
    """Sums of values by name over the steps since they were last recorded: a part of the state of a training."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.steps = 0

    def add(self, values: Mapping[str, float]) -> None:
        """Add the values of a step."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.steps += 1

    def means(self) -> dict[str, float]:
        """The means since this was last asked."""
        means = {name: value / self.steps for name, value in self.sums.items()}
        self.sums, self.steps = {}, 0
        return means

    def state_dict(self) -> dict[str, object]:
        """What `load_state_dict` reads."""
        return {"sums": dict(self.sums), "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Go on with sums that were kept; ValueError for what is none."""
        sums, steps = state["sums"], state["steps"]
        if not isinstance(sums, dict) or not isinstance(steps, int) or steps < 0:
            raise ValueError("its sums of losses are none")
        self.sums, self.steps = {str(name): float(value) for name, value in sums.items()}, steps
