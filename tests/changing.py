"""A JSON file with other values."""

import json
from pathlib import Path
from typing import Any


def change(file: Path, **values: Any) -> None:
    held = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**held, **values}))
