"""A process that takes leases at random, holds, gives back, finishes, or dies, and says where two hold one unit.

python tests/leasing.py FOLDER SEED UNITS
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

from imagecot.execution.leases import Leases, Pace, newest, see
from imagecot.files import create, publish

PACE = Pace(beat=0.2, patience=3.0, look=0.01)


def hold(folder: Path, name: str) -> None:
    """Put up a flag that nobody else may have put up, but one who has died."""
    flag = folder / f"flag-{name}"
    while not create(flag, str(os.getpid()).encode()):
        try:
            other = int(flag.read_text())
        except FileNotFoundError:
            continue
        if Path(f"/proc/{other}/stat").exists() and " Z " not in Path(f"/proc/{other}/stat").read_text():
            (folder / "violations").open("a").write(f"{name} {other} {os.getpid()}\n")
            return
        flag.unlink(missing_ok=True)


def main(folder: Path, seed: int, units: int) -> None:
    rng = random.Random(seed)
    names = [f"u{k}" for k in range(units)]
    with Leases(folder / "leases", PACE) as leases:
        while missing := [name for name in names if not (folder / f"result-{name}").exists()]:
            name = rng.choice(missing)
            generation = newest(leases.folder).get(name, 0)
            found = see(leases.folder, name, generation) if generation else None
            if found and not found.free and not leases.dead(found):
                time.sleep(PACE.look)
                continue
            if rng.random() < 0.3:
                time.sleep(rng.uniform(0, 0.05))  # late: others may have taken it over since
            lease = leases.take(name, found.generation if found else 0)
            if lease is None:
                continue
            if (folder / f"result-{name}").exists():
                leases.finish(lease)
                continue
            hold(folder, name)
            time.sleep(rng.uniform(0, 0.02))
            fate = rng.random()
            if fate < 0.1:
                os.kill(os.getpid(), signal.SIGKILL)
            if fate < 0.5:
                (folder / f"flag-{name}").unlink(missing_ok=True)
                leases.give_back(lease)
                continue
            if publish(folder / f"result-{name}", lambda file: file.write_text(str(os.getpid()))):
                (folder / "results").open("a").write(f"{name}\n")
            (folder / f"flag-{name}").unlink(missing_ok=True)
            leases.finish(lease)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
