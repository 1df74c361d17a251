"""The parts one after another, each in a process of its own that is ended when its time is over."""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name

import torch

from imagecot.benchmark.gpu.notes import Notes, read
from imagecot.contracts.values import JSON
from imagecot.files import write_text
from imagecot.precision import has_bfloat16

_GRACE = 20.0  # seconds that a part may need to end


@dataclass(frozen=True)
class Part:
    """A part of the check: the module whose `run` does it, and the seconds that it has."""

    module: str
    seconds: float


PARTS = {
    "correct": Part("imagecot.benchmark.gpu.correct", 180),
    "sizes": Part("imagecot.benchmark.gpu.sizes", 240),
    "training": Part("imagecot.benchmark.gpu.training", 60),
}


def main() -> None:
    """Run the parts and write down what they find; exit code 1 where something failed or ran out of time."""
    parser = argparse.ArgumentParser(prog="python -m imagecot.benchmark.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("gpu-check.json"), help="where to write")
    parser.add_argument("--parts", nargs="*", choices=[*PARTS], default=[*PARTS], help="which parts to run")
    parser.add_argument("--scale", type=float, default=1.0, help="of the seconds that each part has")
    parser.add_argument("--part", nargs=2, metavar=("PART", "FILE"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if asked.part:
        name, file = asked.part
        ends = time.monotonic() + PARTS[name].seconds * asked.scale
        resolve_name(f"{PARTS[name].module}:run")(Notes(Path(file), device, ends))
        return
    if device.type == "cpu":
        print("There is no GPU here: this rehearses the check at small size and says nothing about one.", flush=True)
    found: dict[str, JSON] = {"machine": _machine(device), "rehearsal": device.type == "cpu"}
    for name in asked.parts:
        found[name] = _part(name, asked.scale)
        write_text(asked.out, json.dumps(found, indent=1) + "\n")
        _say(name, found[name])
    print(asked.out)
    sys.exit(1 if _troubled(found) else 0)


def _part(name: str, scale: float) -> dict[str, JSON]:
    """The entries of a part, and whether its time was over before it ended."""
    with tempfile.TemporaryDirectory() as folder:
        file, began = Path(folder) / "entries.jsonl", time.monotonic()
        process = subprocess.Popen(_command(name, scale, file))
        try:
            code: int | None = process.wait(PARTS[name].seconds * scale + _GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = None
        ended = (
            "in time" if code == 0 else "it was ended when its time was over" if code is None else f"exit code {code}"
        )
        return {"ended": ended, "seconds": round(time.monotonic() - began, 1), "entries": read(file)}


def _command(name: str, scale: float, file: Path) -> list[str]:
    """What runs a part in a process of its own."""
    return [sys.executable, "-m", "imagecot.benchmark.gpu", "--scale", str(scale), "--part", name, str(file)]


def _machine(device: torch.device) -> dict[str, JSON]:
    gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name() if gpu else platform.processor() or platform.machine(),
        "memory_bytes": torch.cuda.get_device_properties(0).total_memory if gpu else None,
        "gpus": torch.cuda.device_count(),
        "capability": list(torch.cuda.get_device_capability()) if gpu else None,
        "bfloat16": has_bfloat16(),
        "tf32": {
            "products": torch.backends.cuda.matmul.allow_tf32,
            "convolutions": torch.backends.cudnn.allow_tf32,
        },
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
    }


def _entries(part: JSON) -> list[dict[str, JSON]]:
    listed = part.get("entries") if isinstance(part, dict) else None
    return [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []


def _say(name: str, part: JSON) -> None:
    for entry in _entries(part):
        told = {key: value for key, value in entry.items() if key not in ("name", "where")}
        print(f"{name}: {entry['name']}: {json.dumps(told)[:300]}", flush=True)


def _troubled(found: dict[str, JSON]) -> bool:
    parts = [part for part in found.values() if isinstance(part, dict) and "entries" in part]
    return any(part["ended"] != "in time" for part in parts) or any(
        "failed" in entry or entry.get("right") is False for part in parts for entry in _entries(part)
    )


if __name__ == "__main__":
    main()
