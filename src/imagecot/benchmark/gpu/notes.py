"""What a part of the check has found: an entry for each thing that was tried, written down at once."""

import json
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from imagecot.contracts.values import JSON
from imagecot.errors import first_line
from imagecot.reading import parse_json

Found = Mapping[str, JSON]
_SHOWN = 3  # frames of what failed


@dataclass
class Notes:
    """Entries of one part in a file, a line each; what does not begin in time is left out and said so.

    device   where all is done
    ends     by the clock of time.monotonic
    """

    file: Path
    device: torch.device
    ends: float
    small: bool = field(init=False)

    def __post_init__(self) -> None:
        self.small = self.device.type == "cpu"

    def add(self, name: str, look: Callable[[], Found], *, needs: float = 0.0) -> None:
        """Note what a look finds, its seconds and peak memory; what it raises is an entry too, and all goes on.

        needs  seconds that are left at least when it begins
        """
        began = time.monotonic()
        entry: dict[str, JSON] = {"name": name}
        if began + needs > self.ends:
            entry["left_out"] = "no time is left"
        else:
            entry |= self._looked(look)
            entry["seconds"] = round(time.monotonic() - began, 3)
        with self.file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(entry) + "\n")

    def _looked(self, look: Callable[[], Found]) -> dict[str, JSON]:
        gpu = self.device.type == "cuda"
        if gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
        try:
            found = dict(look())
        except Exception as error:  # whatever breaks on a GPU is what is looked for
            frames = traceback.extract_tb(error.__traceback__)[-_SHOWN:]
            where: list[JSON] = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames]
            return {"failed": f"{type(error).__name__}: {first_line(error)}", "where": where}
        if gpu:
            torch.cuda.synchronize(self.device)
            found["peak_memory_bytes"] = torch.cuda.max_memory_allocated(self.device)
        return found


def read(file: Path) -> list[JSON]:
    """The entries of a part so far."""
    if not file.is_file():
        return []
    return [parse_json(line, str(file), advice="run the check again") for line in file.read_text("utf-8").splitlines()]
