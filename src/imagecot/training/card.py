"""The model card that a training leaves beside its weights: what was trained from what, by which recipe."""

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel

from imagecot.files import write_whole


def write_card(folder: Path, kind: Literal["generator", "verifier"], base: str, how: str, recipe: BaseModel) -> None:
    """Write README.md for weights, or an adapter of `base`, in `folder`.

    how     what was done to the base, as the end of a sentence
    recipe  what the command was given
    """
    adapter = (folder / "adapter_config.json").is_file()
    settings = yaml.safe_dump(recipe.model_dump(mode="json", exclude_unset=True), sort_keys=False)
    tags = ["text-to-image", how.split()[0].lower()] if kind == "generator" else ["reward-model", "verifier"]
    head = yaml.safe_dump({"library_name": "peft" if adapter else "imagecot", "base_model": base, "tags": tags})
    merged = " The adapter is merged into its base when it is loaded." if adapter else ""
    card = f"""---
{head}---

# {folder.name}

`{base}` after {how}.{merged}

```python
from imagecot.{kind}s import load_{kind}

{kind} = load_{kind}("{folder.as_posix()}")
```

The recipe, as `imagecot train` read it:

```yaml
{settings}```
"""
    write_whole(folder / "README.md", card.encode())
