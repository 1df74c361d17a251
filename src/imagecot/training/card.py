"""The model card that a training leaves beside its weights: what was trained from what, by which recipe."""

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel

from imagecot.files import write_whole
from imagecot.models import licence_of

_LIMITS = {
    "generator": """* It knows no more words and objects than its base.
* An aligned generator can draw less varied pictures than its base. `imagecot.alignment.side_effects` measures that.""",
    "verifier": """* It knows pictures like those that it was trained on.
* Whoever chooses or trains by it gets what it overlooks, too. Scores need another judge.""",
}


def write_card(folder: Path, kind: Literal["generator", "verifier"], base: str, how: str, recipe: BaseModel) -> None:
    """Write README.md for weights, or an adapter of `base`, in `folder`.

    how     what was done to the base, as the end of a sentence
    recipe  what the command was given
    """
    adapter = (folder / "adapter_config.json").is_file()
    settings = yaml.safe_dump(recipe.model_dump(mode="json", exclude_unset=True), sort_keys=False)
    tags = ["text-to-image", how.split()[0].lower()] if kind == "generator" else ["reward-model", "verifier"]
    licence = licence_of(base)
    about: dict[str, object] = {"license": licence} if licence else {}  # of its base: nobody else's is known here
    about |= {"library_name": "peft" if adapter else "imagecot", "base_model": base, "tags": tags}
    head = yaml.safe_dump(about, sort_keys=False)
    merged = " The adapter is merged into its base when it is loaded." if adapter else ""
    card = f"""---
{head}---

# {folder.name}

`{base}` after {how}.{merged}

```python
from imagecot.{kind}s import load_{kind}

{kind} = load_{kind}("{folder.as_posix()}")
```

## Training data

They are what this recipe names, as `imagecot train` read it:

```yaml
{settings}```

## Limits

{_LIMITS[kind]}
"""
    write_whole(folder / "README.md", card.encode())
