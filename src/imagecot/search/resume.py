"""One run in one folder: finished, interrupted or another's; and the parts an interrupted run left there.

A part holds a group of finished paths in one safetensors file: pictures and codes as tensors, the rest as
JSON in the file's metadata. The folder `partial` is removed when the trace is complete.
"""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from imagecot.errors import ImagecotError, UsageError
from imagecot.files import is_temporary, make_own_folder, write_text, write_whole
from imagecot.identity import read_identity, refuse_other
from imagecot.search.lines import CandidateLine, CostLine
from imagecot.search.trace import TRACE, Candidate, Cost, Trace

PARTIAL, RUN = "partial", "run.json"
_CANDIDATES = TypeAdapter(list[CandidateLine])


def open_folder(folder: Path, identity: dict[str, Any]) -> Trace | None:
    """Return the trace of a folder that holds this very run, finished; None where it is new or interrupted.

    identity  what `Trace.identity` will be, or the part of it that is known already

    UsageError where the folder is a file, holds another run or anything else; ImagecotError where it cannot
    be read.
    """
    try:
        if not folder.exists():
            return None
        if not folder.is_dir():
            raise UsageError(f"{folder} is a file; give a folder to write to.")
        names = {file.name for file in folder.iterdir() if not is_temporary(file.name)}
    except OSError as error:
        raise ImagecotError(f"cannot read {folder}: {error.strerror}; choose another folder.") from error
    if not names:
        return None
    if (folder / PARTIAL).is_symlink():
        raise ImagecotError(f"{folder / PARTIAL} is a link, and nothing is written through one; remove it.")
    if TRACE in names:
        refuse_other(folder, read_identity(folder / TRACE), identity)
        trace = Trace.load(folder)
        shutil.rmtree(folder / PARTIAL, ignore_errors=True)  # left where a run was killed at its very end
        return trace
    if names == {PARTIAL} and not any((folder / PARTIAL).glob("*.safetensors")):
        return None  # a run that failed before anything was finished
    if PARTIAL in names:
        refuse_other(folder, read_identity(folder / PARTIAL / RUN), identity)
        return None
    raise UsageError(
        f"{folder} is not empty and holds no run of imagecot; choose another folder or delete what is there."
    )


class Partial:
    """The finished parts of a run in progress, under `folder/partial`; the first that is kept claims the folder."""

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
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
            "candidates": json.dumps([candidate.to_dict() for candidate in candidates]),
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
