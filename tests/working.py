"""A work whose units are small files, for tests of how work is shared; its behaviour is told by files in its folder."""

import os
import signal
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from imagecot.errors import ImagecotError, UsageError
from imagecot.execution import machine
from imagecot.execution.leases import Pace
from imagecot.execution.team import Team, carry_out
from imagecot.execution.work import Keep, Unit, absent
from imagecot.files import make_own_folder, publish, write_text
from imagecot.launch import launched
from imagecot.watch import SILENT, Watch

QUICK = Pace(beat=0.1, patience=1.0, look=0.05)


@dataclass(frozen=True)
class Toy:
    """Units 00000 and so on, each a line of text in `parts/`; every try of one appends its process to `TRIES/UNIT`.

    tries  a folder elsewhere, where `UNIT.fails`, `UNIT.dies`, `UNIT.refuses`, `UNIT.full` say how often it does so
    """

    folder: Path
    tries: Path
    count: int = 12
    seconds: float = 0.01
    doing: str = "toying"

    @property
    def units(self) -> list[Unit]:
        return [Unit(f"{k:05d}", f"parts/{k:05d}.txt") for k in range(self.count)]

    def missing(self) -> list[Unit]:
        return [] if self.whole.is_file() else absent(self.folder, self.units)

    def done(self, unit: Unit) -> bool:
        return (self.folder / unit.marker).is_file() or self.whole.is_file()

    @property
    def whole(self) -> Path:
        return self.folder / "whole.txt"

    def load(self) -> "Toy":
        if (self.tries / "refuses").exists():
            raise UsageError("this cannot be done; ask for something else.")
        (self.tries / f"place {machine._share}").touch()
        return self

    def do(self, unit: Unit) -> Keep:
        with (self.tries / unit.name).open("a") as file:
            file.write(f"{os.getpid()}\n")
        number = len((self.tries / unit.name).read_text().splitlines())
        time.sleep(self.seconds)
        if number <= self._often(unit, "fails"):
            raise ImagecotError(f"{unit.name} is broken.")
        if number <= self._often(unit, "dies"):
            os.kill(os.getpid(), signal.SIGKILL)
        if number <= self._often(unit, "full"):
            raise ImagecotError("cannot write x: the disk is full.") from OSError(28, "no space")
        return partial(self._keep, unit)

    def _keep(self, unit: Unit) -> None:
        make_own_folder(self.folder / "parts")
        text = f"{unit.name} {int(unit.name) ** 2}\n"
        if publish(self.folder / unit.marker, lambda file: file.write_text(text)):
            with (self.tries / f"{unit.name}.kept").open("a") as file:
                file.write(f"{os.getpid()}\n")

    def _often(self, unit: Unit, how: str) -> int:
        file = self.tries / f"{unit.name}.{how}"
        return int(file.read_text()) if file.exists() else 0

    def conclude(self) -> str:
        if self.whole.is_file():  # the same command again
            return self.whole.read_text()
        with (self.tries / "concluded").open("a") as file:
            file.write(f"{os.getpid()}\n")
        text = "".join((self.folder / unit.marker).read_text() for unit in self.units)
        write_text(self.whole, text)
        for unit in self.units:
            (self.folder / unit.marker).unlink()
        (self.folder / "parts").rmdir()
        return text


EXPECTED = "".join(f"{k:05d} {k**2}\n" for k in range(12))


def toy(folder: Path, **more: object) -> Toy:
    """A toy in a folder of its own, with what is written of its tries beside it."""
    (folder / "tries").mkdir(exist_ok=True)
    return Toy(folder / "out", folder / "tries", **more)  # type: ignore[arg-type]


def go(work: Toy, workers: int = 1, watch: Watch = SILENT, pace: Pace = QUICK) -> str:
    """Do it."""
    team = Team(workers, pace=pace)
    return carry_out(work, team, watch, work.conclude, work.whole.read_text)


def tries(work: Toy) -> list[int]:
    """How often each unit was tried."""
    return [len((work.tries / unit.name).read_text().splitlines()) for unit in work.units]


def kept(work: Toy) -> list[int]:
    """How often the result of each unit was kept."""
    return [len((work.tries / f"{unit.name}.kept").read_text().splitlines()) for unit in work.units]


if __name__ == "__main__":
    import sys

    folder, workers, seconds, count = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    assert launched()[0] < launched()[1]
    print(go(toy(folder, seconds=seconds, count=count), workers), end="")
