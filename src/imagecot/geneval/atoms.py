"""Which parts of a prompt an image shows, by GenEval's rules on a detector's answers, each part asked by itself."""

from dataclasses import replace
from functools import lru_cache

from imagecot.contracts.detector import Detections
from imagecot.contracts.metadata import Metadata, Need
from imagecot.geneval.rules import judge_detections


@lru_cache(maxsize=1_024)  # every image of a prompt asks for them
def atoms_of(metadata: Metadata) -> tuple[Metadata, ...]:
    """What each part of a prompt asks for: every object, its number where there are several, colour and relation.

    These are the atoms of GenEval 2 (Kamath et al., 2025), each as the task of GenEval that asks for it alone. A number
    is exact, a colour is that of each of its objects, and of a relation one object on either side is enough.
    """
    found: list[Metadata] = []
    for need in metadata.include:
        found.append(_atom("single_object", metadata, Need(need.name)))
        if need.count > 1:
            exact = _atom("counting", metadata, Need(need.name, need.count))
            found.append(replace(exact, exclude=(Need(need.name, need.count + 1),), text=""))
        if need.color:
            found.append(_atom("colors", metadata, Need(need.name, need.count, need.color)))
        if need.relation:
            target = Need(metadata.include[need.target].name)
            found.append(_atom("position", metadata, target, Need(need.name, 1, "", need.relation, 0)))
    return tuple(dict.fromkeys(found))


def share_of_atoms(metadata: Metadata, found: Detections) -> float:
    """The share of a prompt's atoms that an image shows: the arithmetic mean of Soft-TIFA with answers of 0 and 1."""
    right = [judge_detections(atom, found.boxes, found.colors).correct for atom in atoms_of(metadata)]
    return sum(right) / len(right)


def _atom(task: str, metadata: Metadata, *needs: Need) -> Metadata:
    return Metadata(task, metadata.prompt, needs)
