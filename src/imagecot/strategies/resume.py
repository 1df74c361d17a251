"""The parts that an interrupted run leaves in its folder.

A part holds a group of finished paths in one safetensors file: pictures and codes as tensors, the rest as
JSON in the file's metadata. The folder `partial` is removed when the trace is complete.
"""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from imagecot.contracts.search import Candidate, Cost
from imagecot.files import make_own_folder, write_text, write_whole
from imagecot.identity import Identity
from imagecot.strategies.folder import PARTIAL, RUN
from imagecot.strategies.lines import CandidateLine, CostLine, as_line

_CANDIDATES = TypeAdapter(list[CandidateLine])


class Partial:
    """The finished parts of a run in progress, under `folder/partial`; the first that is kept claims the folder."""

    def __init__(self, folder: Path, identity: Identity) -> None:
        self.folder, self.identity = make_own_folder(folder / PARTIAL), identity
        self._claimed = False

    def save(self, unit: str, candidates: list[Candidate], cost: Cost) -> None:
        """Write the candidates of one unit of work and what they cost."""
        if not self._claimed:
            write_text(self.folder / RUN, json.dumps(self.identity))
            self._claimed = True
        pictured = [i for i, candidate in enumerate(candidates) if candidate.image is not None]
        tensors = {f"image.{i}": torch.from_numpy(np.array(candidates[i].image)) for i in pictured}
        tensors |= {f"state.{i}": c.state for i, c in enumerate(candidates) if c.state is not None}
        for step in sorted({step for candidate in candidates for step in candidate.codes}):
            rows = [i for i, candidate in enumerate(candidates) if step in candidate.codes]
            tensors[f"rows.{step}"] = torch.tensor(rows)
            tensors[f"codes.{step}"] = torch.stack([candidates[i].codes[step] for i in rows])
        metadata = {
            "candidates": json.dumps([as_line(candidate) for candidate in candidates]),
            "cost": json.dumps(asdict(cost)),
        }
        write_whole(self.folder / f"{unit}.safetensors", save(tensors, metadata))

    def load(self, unit: str) -> tuple[list[Candidate], Cost] | None:
        """Read back what `save` wrote; None where there is nothing readable, so that it is done again."""
        file = self.folder / f"{unit}.safetensors"
        if not file.is_file():
            return None
        try:
            with safe_open(file, "pt") as part:
                metadata = part.metadata()
                candidates = [line.candidate() for line in _CANDIDATES.validate_json(metadata["candidates"])]
                for name in part.keys():  # noqa: SIM118 (not a dict)
                    kind, number = name.split(".")
                    if kind == "image":
                        candidates[int(number)].image = Image.fromarray(part.get_tensor(name).numpy())
                    elif kind == "state":
                        candidates[int(number)].state = part.get_tensor(name)
                    elif kind == "codes":
                        rows = part.get_tensor(f"rows.{number}").tolist()
                        for row, codes in zip(rows, part.get_tensor(name), strict=True):
                            candidates[row].codes[int(number)] = codes
                return candidates, CostLine.model_validate_json(metadata["cost"]).cost()
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, IndexError):
            return None

    def remove(self) -> None:
        """Delete the parts: the trace is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)
