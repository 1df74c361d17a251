"""The page of a repository: what its folder says, with what only a push knows, by the hub's own classes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imagecot.errors import ImagecotError, first_line
from imagecot.evaluation.report import remarks, table
from imagecot.evaluation.summary import SUMMARY, read_summary
from imagecot.hub import CHECKPOINTS, HubId, hub_id
from imagecot.models import SHIPPED_LICENCE, licence_of
from imagecot.naming import printable
from imagecot.publishing import scores
from imagecot.publishing.clean import without_paths
from imagecot.publishing.folders import CURATED, EVALUATED
from imagecot.publishing.parcel import CARD, Parcel
from imagecot.reading import read_object, read_record, read_text
from imagecot.study.summary import Summary

if TYPE_CHECKING:
    from huggingface_hub import CardData

_PIPELINES = {"generator": "text-to-image", "verifier": "image-text-to-text", "detector": "object-detection"}
_LOADED = re.compile(r"(load_(?:generator|verifier|detector))\((['\"])[^'\"]*\2")
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)[^)]*\)")
_OURS = re.compile(r"\n*<!-- imagecot -->.*?<!-- /imagecot -->\n?", re.DOTALL)
_USES = {
    "generator": """```python
from imagecot import load_generator

generator = load_generator("{name}")
```

```bash
imagecot generate "a photo of a red apple" --generator {name}
```""",
    "verifier": """```python
from imagecot import load_verifier

verifier = load_verifier("{name}")
```""",
    "detector": """```bash
imagecot evaluate geneval --detector {name}
```""",
    CURATED: """```python
from datasets import load_dataset

rows = load_dataset("{name}", split="train")
```""",
}


@dataclass(frozen=True)
class Card:
    """A finished card, and what a reader will look for in vain, a sentence each."""

    text: str
    lacks: tuple[str, ...] = ()


def card_of(
    parcel: Parcel, folder: Path, place: HubId, *, base: str | None, results: scores.Results | None, benchmark: str
) -> Card:
    """Write the card of a parcel.

    base       the name of the model that it is an adapter of
    results    scores that were measured with these weights
    benchmark  what the prompts of the results are called

    ImagecotError where the card in the folder is damaged.
    """
    if parcel.type == "dataset":
        return Card(_data_card(parcel, folder, place))
    from huggingface_hub import ModelCard, ModelCardData

    own = read_text(folder / CARD) if (folder / CARD).is_file() else f"# {_title(place)}\n\nA model: {parcel.kind}."
    try:
        card = ModelCard(own if own.startswith("---") else f"---\n{{}}\n---\n{own}")
    except Exception as error:  # of YAML, and of what the hub's classes say of its values
        raise ImagecotError(f"{folder / CARD}: its head is no metadata of a card ({first_line(error)}).") from None
    data = card.data
    assert isinstance(data, ModelCardData)
    named = base if base is not None else _one(data.base_model)
    known = hub_id(named) if named else None
    here = folder.parent == CHECKPOINTS
    data.base_model = known.repository if known else None
    data.library_name = data.library_name or "imagecot"
    data.license = data.license or (SHIPPED_LICENCE if here else licence_of(named or ""))
    tags = [tag for kind, tag in _PIPELINES.items() if kind in parcel.kind]
    data.pipeline_tag = data.pipeline_tag or next(iter(tags), None)
    data.tags = list(dict.fromkeys([*(data.tags or []), "imagecot"]))
    data.model_name = _title(place) if results is not None else None
    data.eval_results = scores.in_card(results, benchmark) if results is not None else None
    body = _body(card.text, place)
    whole = f"---\n{data.to_yaml()}\n---\n{body}\n\n{_added(parcel, place, results)}\n"
    return Card(whole, tuple(_lacks(data, body)))


def _one(named: object) -> str | None:
    """The first of one or several base models of a card."""
    first = named[0] if isinstance(named, list) and named else named
    return first if isinstance(first, str) else None


def _title(place: HubId) -> str:
    return place.folder.rpartition("/")[2] or place.repository.rpartition("/")[2]


def _body(text: str, place: HubId) -> str:
    """The text of a card for people elsewhere: models by this repository's name, no links and paths of this machine."""
    text = _OURS.sub("\n", text)
    text = _LOADED.sub(lambda found: f'{found[1]}("{place}"', text)
    return without_paths(_LINK.sub(r"\1", text)).strip()


def _added(parcel: Parcel, place: HubId, results: scores.Results | None) -> str:
    """What a push knows: how to load it, what its weights are, and how it scores. A later push replaces it."""
    uses = [use.format(name=str(place)) for kind, use in _USES.items() if kind in parcel.kind]
    parts = ["## Use", *(uses or ["Load it by the name of this repository."])]
    if results is not None:
        parts += ["## Scores", scores.table(results)]
    rows = "\n".join(f"| {role} | `{digest}` |" for role, digest in parcel.digests.items())
    parts += ["## What it is, to the byte", f"| part | SHA-256 |\n|---|---|\n{rows}"]
    return "\n\n".join(["<!-- imagecot -->", *parts, "<!-- /imagecot -->"])


def _lacks(data: "CardData", body: str) -> list[str]:
    """What a reader of a model's card looks for and does not find, a sentence each."""
    heads = " ".join(re.findall(r"^#+ (.*)$", body, re.M)).lower()
    wanted: Mapping[str, bool] = {
        "a licence (license: in its head)": bool(data.get("license")),
        "what it was trained on (a section Training data)": "train" in heads or "data" in heads,
        "its limits (a section Limits)": "limit" in heads,
    }
    return [f"the card does not say {what}" for what, there in wanted.items() if not there]


def _data_card(parcel: Parcel, folder: Path, place: HubId) -> str:
    """The card of data or results."""
    from huggingface_hub import DatasetCard, DatasetCardData

    if parcel.kind == CURATED:
        try:
            card = DatasetCard(read_text(folder / CARD))
        except Exception as error:
            raise ImagecotError(f"{folder / CARD}: its head is no metadata of a card ({first_line(error)}).") from None
        card.data["tags"] = list(dict.fromkeys([*(card.data.get("tags") or []), "imagecot"]))
        return f"---\n{card.data.to_yaml()}\n---\n{_body(card.text, place)}\n\n{_added(parcel, place, None)}\n"
    # The hub shows no table of files that have nothing in common.
    data = DatasetCardData(tags=["imagecot", parcel.kind], pretty_name=_title(place), viewer=False)
    found = _evaluation_text(folder) if parcel.kind == EVALUATED else _study_text(folder)
    text = f"# {_title(place)}\n\nResults of imagecot: {parcel.kind}.\n\n{found}"
    return f"---\n{data.to_yaml()}\n---\n{without_paths(text)}\n\n{_fetching(place)}\n"


def _evaluation_text(folder: Path) -> str:
    found = read_summary(folder)
    return "\n".join([table(found), "", *(f"* {line}" for line in remarks(found))])


def _study_text(folder: Path) -> str:
    said = read_object(folder / SUMMARY, advice="run the study again")
    if "rows" not in said:  # an audit, or a study of corrections
        return printable(f"`summary.json` holds what was found, by `{said.get('command')}`, {said.get('date')}.")
    found = read_record(folder / SUMMARY, Summary, advice="run the study again")
    return scores.table(scores.studied(found, found.methods.items()))


def _fetching(place: HubId) -> str:
    use = f'from imagecot import pull_from_hub\n\npull_from_hub("{place}", "runs/{_title(place)}")'
    return f"```python\n{use}\n```\n\n`imagecot view runs/{_title(place)}` shows it."
