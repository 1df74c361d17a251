"""The choice of a search, checked: a finished path with its image, among candidates that a trace can hold."""

import json
from collections.abc import Sequence

from PIL.Image import Image
from pydantic import ValidationError
from torch import Tensor

from imagecot.bounds import shown
from imagecot.contracts.search import Candidate, Choice, Run, Strategy
from imagecot.errors import first_line
from imagecot.guard import broken, called, counted, kind
from imagecot.reading import phrases
from imagecot.strategies.lines import CandidateLine, as_line


def choose(search: Strategy, run: Run) -> Choice[Candidate]:
    """Call `search.choose`; ImagecotError, naming the search, where its choice is no finished path with its image."""
    found: object = called(search, "choose", lambda: search.choose(run))
    if not isinstance(found, Choice):
        raise broken(search, "choose", kind(found), "a Choice")
    candidates, index = found.candidates, found.index
    if not isinstance(candidates, Sequence) or not all(isinstance(one, Candidate) for one in candidates):
        raise broken(search, "choose", f"candidates that are {kind(candidates)}", "a list of Candidate")
    if not counted(index) or index >= len(candidates):
        raise broken(search, "choose", f"index {shown(index)}", f"one of its {len(candidates)} candidates")
    taken = candidates[index]
    run.show(taken)
    if taken.truncated_at is not None or taken.image is None:
        raise broken(search, "choose", f"candidate {index}, which was not drawn to its end", "one that was")
    for k, one in enumerate(candidates):
        try:
            CandidateLine.model_validate_json(json.dumps(as_line(one)))
            if not _shown(one):
                raise TypeError("its image, codes or previews are no pictures and tensors")
        except (AttributeError, TypeError, ValueError) as error:
            wrong = phrases(error) if isinstance(error, ValidationError) else first_line(error)
            raise broken(search, "choose", f"candidate {k} ({wrong})", "what a trace can hold") from None
    return found


def _shown(candidate: Candidate) -> bool:
    """Whether image, previews and codes of a candidate are pictures and tensors."""
    images = [*candidate.previews.values(), *([] if candidate.image is None else [candidate.image])]
    codes = candidate.codes.values()
    return all(isinstance(one, Image) for one in images) and all(isinstance(one, Tensor) for one in codes)
