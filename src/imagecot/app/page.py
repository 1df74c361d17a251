"""The page: what is asked for on the left, the grid and the choice on the right."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import gradio as gr
from PIL import Image

from imagecot import registry
from imagecot.app.drawing import MOST_LETTERS, Drawn, Easel, Wish, rounds_of
from imagecot.errors import ImagecotError

TITLE = "imagecot: verify image generation, step by step"
AUTO = "as the generator's checkpoint says"
_MODELS = "models"  # what has them waits in one line: the models do one thing at a time
_KEPT = 8  # results of a visitor
_HOUR = 3600
_LEAST = 320  # pixels of the side of the choice
_EXAMPLES = ("a photo of a red apple and a green cup", "a photo of three blue birds", "a photo of a car left of a boat")


@dataclass(frozen=True)
class Result:
    """A finished search of a visitor."""

    wish: Wish
    drawn: Drawn
    html: str
    told: str


class Visits:
    """Who draws now, by what Gradio calls a visit, so that their search can be stopped."""

    def __init__(self) -> None:
        self._stops: dict[str, threading.Event] = {}

    def begin(self, visitor: str) -> threading.Event:
        """A new event, which stops the search of this visitor; one in progress is stopped."""
        self.stop(visitor)
        self._stops[visitor] = threading.Event()
        return self._stops[visitor]

    def stop(self, visitor: str) -> None:
        """Stop the search of a visitor, if there is one."""
        if (event := self._stops.pop(visitor, None)) is not None:
            event.set()


@dataclass(frozen=True)
class Asked:
    """What visitors say, and the buttons."""

    prompt: gr.Textbox
    generator: gr.Dropdown
    search: gr.Dropdown
    verifier: gr.Dropdown
    n: gr.Slider
    seed: gr.Number
    draw: gr.Button
    stop: gr.Button

    @property
    def values(self) -> list[Any]:
        """The inputs of a wish, in the order of `_wish`."""
        return [self.prompt, self.generator, self.search, self.verifier, self.n, self.seed]


@dataclass(frozen=True)
class Seen:
    """What visitors see."""

    told: gr.HTML
    grid: gr.HTML
    image: gr.Image
    reasons: gr.HTML
    command: gr.Code
    download: gr.DownloadButton
    compare: gr.Button
    table: gr.Dataframe
    before: gr.Dropdown

    @property
    def outputs(self) -> list[Any]:
        """All but the button."""
        return [self.told, self.grid, self.image, self.reasons, self.command, self.download, self.table, self.before]


@dataclass(frozen=True)
class Desk:
    """What happens when a visitor does something; each returns new values by what shows them."""

    easel: Easel
    folder: Path
    seen: Seen
    history: gr.State
    visits: Visits

    def draw(self, kept: list[Result], said: gr.Request, *asked: Any) -> Iterator[dict[Any, Any]]:
        """Fill the grid while a wish is drawn, then show the choice."""
        wish, seen = _wish(*asked), self.seen
        yield {seen.told: _text("waiting"), seen.table: gr.update(visible=False)}
        for shown in self.easel.draw(wish, self.visits.begin(said.session_hash or "")):
            update: dict[Any, Any] = {seen.told: _text(shown.told, failed=shown.failed)}
            if shown.html:
                update[seen.grid] = shown.html
            if shown.done is not None:
                result = Result(wish, shown.done, shown.html, shown.told)
                kept = [result, *kept][:_KEPT]
                update |= {self.history: kept, seen.before: _choices(kept), **self._look(result)}
            yield update

    def again(self, kept: list[Result], index: int | None) -> dict[Any, Any]:
        """Show an earlier result; what others would have chosen is about the first of the list, which it becomes."""
        if index is None or index >= len(kept):
            return {self.seen.told: gr.skip()}
        kept = [kept[index], *kept[:index], *kept[index + 1 :]]
        return {self.history: kept, self.seen.table: gr.update(visible=False), **self._look(kept[0])}

    def compare(self, kept: list[Result]) -> dict[Any, Any]:
        """Show what other searches would have chosen of the paths that are looked at."""
        if not kept:
            return {self.seen.told: _text("nothing was drawn yet; draw first.", failed=True)}
        try:
            found = kept[0].drawn.others()
        except ImagecotError as error:
            return {self.seen.told: _text(str(error), failed=True)}
        chosen = kept[0].drawn.trace.chosen
        rows = [
            [one.search, one.path + 1, round(one.score, 2), "the same" if one.path == chosen else "another path"]
            for one in found
        ]
        return {self.seen.table: gr.update(value=rows, visible=True)}

    def stop(self, said: gr.Request) -> None:
        """Stop the search of a visitor."""
        self.visits.stop(said.session_hash or "")

    def _look(self, result: Result) -> dict[Any, Any]:
        seen, trace = self.seen, result.drawn.trace
        return {
            seen.told: _text(result.told),
            seen.grid: result.html,
            seen.image: _enlarged(trace.image),
            seen.reasons: _text(rounds_of(trace)),
            seen.command: result.wish.command,
            seen.download: gr.update(value=str(_zipped(result.drawn, self.folder)), interactive=True),
        }


def page(easel: Easel, folder: Path, generators: Sequence[str], *, queue: int) -> gr.Blocks:
    """The page of an app.

    folder      where the files of traces are put together
    generators  that can be chosen, the first at first
    queue       how many visitors may wait
    """
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(_HOUR, _HOUR)) as blocks:
        history = gr.State([], time_to_live=_HOUR)
        gr.Markdown(f"# {TITLE}\nDraw a prompt many times, and let a reward model choose.")
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                asked = _asked(generators, easel.most)
            with gr.Column(scale=3, min_width=320):
                seen = _seen()
        desk = Desk(easel, folder, seen, history, Visits())
        outputs = [history, *seen.outputs]
        asked.draw.click(
            desk.draw, [history, *asked.values], outputs, api_name="draw", show_progress="hidden",
            concurrency_limit=1, concurrency_id=_MODELS,
        )  # fmt: skip
        asked.stop.click(desk.stop, None, None, queue=False, api_visibility="private")
        seen.before.input(desk.again, [history, seen.before], outputs, api_visibility="private")
        seen.compare.click(
            desk.compare, [history], [seen.table, seen.told], api_visibility="private",
            concurrency_limit=1, concurrency_id=_MODELS,
        )  # fmt: skip
        blocks.unload(desk.stop)
    blocks.queue(max_size=queue, default_concurrency_limit=4)
    return blocks


def _asked(generators: Sequence[str], most: int) -> Asked:
    """The left column."""
    prompt = gr.Textbox(_EXAMPLES[0], label="Prompt", lines=2, max_length=MOST_LETTERS, elem_id="prompt")
    gr.Examples([[text] for text in _EXAMPLES], prompt, label="Try")
    generator = gr.Dropdown([*generators], value=generators[0], label="Generator")
    search = gr.Dropdown([AUTO, *registry.names("search")], value=AUTO, label="Search")
    verifier = gr.Dropdown([AUTO, "self", *registry.names("verifier")], value=AUTO, label="Verifier")
    n = gr.Slider(1, most, min(12, most), step=1, label="Paths (N)")
    seed = gr.Number(0, precision=0, label="Seed")
    with gr.Row():
        draw = gr.Button("Draw", variant="primary", elem_id="draw")
        stop = gr.Button("Stop", variant="stop", elem_id="stop")
    return Asked(prompt, generator, search, verifier, n, seed, draw, stop)


def _seen() -> Seen:
    """The right column."""
    told, grid = gr.HTML(elem_id="told"), gr.HTML(elem_id="grid")
    with gr.Row():
        image = gr.Image(label="The choice", type="pil", interactive=False, format="png", elem_id="choice")
        with gr.Column():
            reasons = gr.HTML(elem_id="rounds")
            command = gr.Code(
                label="The same from the shell", language="shell", interactive=False, lines=1, wrap_lines=True,
                show_line_numbers=False, elem_id="command",
            )  # fmt: skip
            download = gr.DownloadButton("Download the trace", interactive=False, elem_id="trace")
    compare = gr.Button("What would another search have chosen?", elem_id="compare")
    table = gr.Dataframe(
        headers=["search", "path", "P(yes)", ""], interactive=False, visible=False, type="array", elem_id="others"
    )
    before = gr.Dropdown([], label="Before", type="index", elem_id="history")
    return Seen(told, grid, image, reasons, command, download, compare, table, before)


def _wish(prompt: str, generator: str, search: str, verifier: str, n: float, seed: float) -> Wish:
    named = [None if name == AUTO else name for name in (verifier, search)]
    return Wish(prompt, generator, named[0], named[1], int(n), int(seed or 0))


def _choices(kept: Sequence[Result]) -> Any:
    named = [f"{one.wish.prompt} · {one.drawn.trace.strategy} · seed {one.wish.seed}" for one in kept]
    return gr.update(choices=named, value=None)


def _enlarged(picture: Image.Image) -> Image.Image:
    """A picture that is no smaller than the page shows it."""
    factor = -(-_LEAST // max(picture.size))
    return picture.resize((picture.width * factor, picture.height * factor)) if factor > 1 else picture


def _text(text: str, *, failed: bool = False) -> str:
    """A sentence as HTML; whatever stands in it stays text."""
    kind = "told error" if failed else "told"
    return f'<p class="{kind}" role="status">{escape(text)}</p>' if text else ""


def _zipped(drawn: Drawn, folder: Path) -> Path:
    """The files of a trace in one file."""
    import tempfile

    place = Path(tempfile.mkdtemp(dir=folder)) / "trace.zip"
    with ZipFile(place, "w") as archive:
        for name, data in drawn.files().items():
            archive.writestr(name, data)
    return place
