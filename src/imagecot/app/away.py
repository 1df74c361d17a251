"""An app that holds no models: a server of this machine draws (`imagecot app --server`)."""

import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from imagecot.app.drawing import Drawn, Shown, Wish, finished, seen
from imagecot.app.grid import Grid
from imagecot.errors import ImagecotError
from imagecot.files import write_whole
from imagecot.images import open_picture
from imagecot.serving.client import Exchange, files_of, look_of
from imagecot.serving.messages import Done, Other, Seen, Tell, Waiting
from imagecot.serving.place import Place
from imagecot.strategies import previews
from imagecot.strategies.trace import Trace


@dataclass(frozen=True)
class Away:
    """An easel at a server.

    place   where it is, and the token for it
    folder  where its traces are put together
    most    paths of a search at most
    """

    place: Place
    folder: Path
    most: int

    def draw(self, wish: Wish, stop: threading.Event) -> Iterator[Shown]:
        """What is to be seen while the server draws; closing it, or `stop`, ends the search there."""
        try:
            exchange = Exchange(self.place, wish.asked(self.most), steps=True)
            threading.Thread(target=_leave, args=(exchange, stop), daemon=True).start()
            yield from self._shown(exchange, wish)
        except ImagecotError as error:
            yield Shown(told="stopped") if stop.is_set() else Shown(told=str(error), failed=True)
        finally:
            stop.set()

    def _shown(self, exchange: Exchange, wish: Wish) -> Iterator[Shown]:
        grid, warned = Grid(), ""
        for event in exchange.events():
            if isinstance(event, Tell):
                warned = f"{warned} {event.text}".strip()
            elif isinstance(event, Waiting) and event.text is not None:
                yield Shown(told=event.text)
            elif isinstance(event, Seen):
                yield seen(grid, look_of(event), warned)
            elif isinstance(event, Done):
                yield finished(grid, self._drawn(event, wish), warned)

    def _drawn(self, done: Done, wish: Wish) -> Drawn:
        """A trace of its files, with the final images that they hold."""
        files = files_of(done)
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            for name, data in files.items():
                write_whole(folder / name, data)
            trace, pictures = Trace.load(folder), previews.read(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        for index, candidate in enumerate(trace.candidates):
            if candidate.image is None and (index, trace.steps) in pictures:
                candidate.image = open_picture(pictures[index, trace.steps])
        return Drawn(trace, lambda: files, lambda: self._others(wish))

    def _others(self, wish: Wish) -> list[Other]:
        """The server draws the same paths again: it keeps none."""
        exchange = Exchange(self.place, wish.asked(self.most), others=True)
        return [other for event in exchange.events() if isinstance(event, Done) for other in event.others]


def _leave(exchange: Exchange, stop: threading.Event) -> None:
    stop.wait()
    exchange.leave()
