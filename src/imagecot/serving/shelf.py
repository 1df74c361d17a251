"""Models that stay loaded, by what they are: the one that was used longest ago goes first."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from imagecot import registry
from imagecot.contracts.generator import Generator
from imagecot.contracts.verifier import Verifier
from imagecot.errors import UsageError
from imagecot.forms import form_of
from imagecot.generation.recipe import GenerationRecipe
from imagecot.judging import beside
from imagecot.strategies.defaults import Models, Named

Key = tuple[object, ...]


class Shelf:
    """At most so many models; those of one request stay, however many they are.

    A model is known by its role and name, SHA-256 of its weights, its number format, and the files of its folder.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._models: OrderedDict[Key, Generator | Verifier] = OrderedDict()

    @property
    def names(self) -> list[str]:
        """The names of the models that are loaded, the one that goes first at first."""
        return [str(key[1]) for key in self._models]

    def load(self, named: Named, precision: str | None) -> Models:
        """The models of a search, those that are there as they are; errors as of `Named.load`."""
        used: set[Key] = set()

        def generator(name: str) -> Generator:
            found = self._one("generator", name, precision, lambda: registry.load("generator", name, dtype=precision))
            used.add(found[0])
            assert isinstance(found[1], Generator)
            return found[1]

        def verifier(name: str) -> Verifier:
            found = self._one("verifier", name, precision, lambda: registry.load("verifier", name, dtype=precision))
            used.add(found[0])
            assert isinstance(found[1], Verifier)
            return found[1]

        first, judge, again = (named.models.get(role) for role in ("generator", "verifier", "corrector"))
        assert first is not None  # as every search has one
        drawer = generator(first)
        with beside(first, drawer, dtype=precision):
            models = Models(drawer, verifier(judge) if judge else None, generator(again) if again else None)
        for key in [key for key in self._models if key not in used][: max(0, len(self._models) - self._most)]:
            del self._models[key]
        return models

    def _one(
        self, role: str, name: str, precision: str | None, load: Callable[[], Generator | Verifier]
    ) -> tuple[Key, Generator | Verifier]:
        """A model and its key, loaded where it is not there."""
        key: Key = (role, name, precision, frozenset(registry.digests(role, name).items()), _files(role, name))
        if key not in self._models:
            self._models[key] = load()
        self._models.move_to_end(key)
        return key, self._models[key]


def check_served(recipe: GenerationRecipe) -> None:
    """Raise UsageError where a recipe names other people's code, or a judge that is asked over the network.

    So do the names that its generator's checkpoint advises. Nothing is imported for that.
    """
    named = [("generator", recipe.generator), ("verifier", recipe.verifier), ("corrector", recipe.corrector)]
    _check([*named, ("search", recipe.search)])
    said = registry.search_defaults(recipe.generator)
    advised = [("verifier", name) for name in said.verifiers.values()]
    _check([*advised, ("corrector", said.corrector), ("search", said.search)])


def _check(named: Sequence[tuple[str, str | None]]) -> None:
    for role, name in named:
        for kind, part in _parts(role, name) if name is not None else ():
            if registry.is_code(kind, part):
                raise UsageError(f"{part} is code, and a server runs none but its own; leave out --server.")
            form = form_of(kind, part) if kind == "verifier" else None
            if form is not None and form.needs is not None:
                raise UsageError(f"{part[:100]} is itself asked over the network; leave out --server.")


def _parts(role: str, name: str) -> Iterator[tuple[str, str]]:
    """A name, and those that it holds."""
    yield role, name
    form = form_of(role, name)
    if form is not None and form.needs is None:
        for kind, part in form.spelling.parts(name):
            yield from _parts(kind, part)


def _files(role: str, name: str) -> tuple[object, ...]:
    """The folders that a name stands for, with their files: names, sizes and times."""
    folders = [Path(part) for _, part in _parts(role, name) if Path(part).is_dir()]
    return tuple(
        (folder.resolve(), tuple(sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in there)))
        for folder in folders
        for there in [[file for file in folder.iterdir() if file.exists()]]
    )
