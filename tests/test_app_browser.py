"""The page of `imagecot app` in a real headless Chromium, and twenty visitors at once: `make test-browser`."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser
PATIENCE = 120_000  # milliseconds: other work may share the machine
HOSTILE = 'a cup <img src=x onerror="window.hurt=1"> ${window.hurt=2}'
VISITORS = 20


class App:
    """An app in a process of its own."""

    def __init__(self, *options: str, **environment: str) -> None:
        command = [sys.executable, "-m", "imagecot", "app", "--port", "0", "--generator", "tiny", "--most", "12",
                   "--queue", str(VISITORS), *options]  # fmt: skip
        told = os.environ | {"COLUMNS": "200"} | environment
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=told)
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert found, line
        self.address = found[0]

    @property
    def resident(self) -> float:
        """MB of memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        assert self.process.stderr is not None
        with self.process.stderr:
            return self.process.wait(60)


@pytest.fixture(scope="module")
def app() -> Iterator[App]:
    app = App()
    yield app
    app.end()


@pytest.fixture
def page(browser, app):
    """The page, watched: errors of the console, exceptions and requests to other places fail the test."""
    wrong, asked = [], []
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(app.address)
    page.wait_for_selector("#draw")
    yield page
    assert [url for url in asked if not url.startswith((app.address, "data:", "blob:"))] == []
    assert page.evaluate("window.hurt") is None
    assert wrong == []
    context.close()


def draw(page, prompt: str = "a photo of a red apple") -> None:
    page.fill("#prompt textarea", prompt)
    page.click("#draw")


def wait_for(page, text: str) -> None:
    page.wait_for_function("text => document.querySelector('#told').innerText.includes(text)", arg=text)


def test_the_grid_fills_and_the_choice_is_shown(page) -> None:
    look = "seen.add(document.querySelectorAll('#grid img').length)"
    page.evaluate(f"""() => {{
        window.seen = new Set()
        new MutationObserver(() => {look}).observe(document.body, {{subtree: true, childList: true}})
    }}""")
    draw(page)
    wait_for(page, " chose path ")
    assert len(page.evaluate("[...seen]")) > 3  # it filled step by step
    assert page.locator("#grid tr.chosen").count() == 1
    assert page.locator("#choice img").count() == 1
    assert "imagecot generate" in page.locator("#command").inner_text()
    page.click("#compare")
    page.wait_for_function("document.querySelector('#others')?.innerText.includes('best-of-n')")
    with page.expect_download() as download:
        page.click("#trace")
    assert download.value.suggested_filename == "trace.zip"


def test_a_server_draws_and_stops(browser, tmp_path) -> None:
    state = {"XDG_STATE_HOME": str(tmp_path), "COLUMNS": "200"}
    server = subprocess.Popen(
        [sys.executable, "-m", "imagecot", "serve"], stderr=subprocess.PIPE, text=True, env=os.environ | state
    )
    assert server.stderr is not None
    assert server.stderr.readline().startswith("serving at")
    app = App("--server", "auto", **state)
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(app.address)
    page.wait_for_selector("#draw")
    draw(page)
    wait_for(page, "step 1 of")
    page.click("#stop")
    wait_for(page, "stopped")
    draw(page)
    wait_for(page, " chose path ")
    assert page.locator("#grid tr.chosen").count() == 1
    context.close()
    assert app.end() == 0
    server.terminate()
    server.communicate(timeout=60)


def test_a_search_is_stopped(page) -> None:
    draw(page)
    wait_for(page, "step 1 of")
    page.click("#stop")
    wait_for(page, "stopped")


def test_what_visitors_write_stays_text(page) -> None:
    draw(page, HOSTILE)
    wait_for(page, " chose path ")
    assert "<img src=x" in page.locator("#command").inner_text()
    assert page.locator("img[src='x']").count() == 0


def test_a_wish_that_cannot_be_is_told(page) -> None:
    draw(page, "   ")
    wait_for(page, "prompt")
    assert page.locator("#told .error").count() == 1
    page.click("#compare")
    wait_for(page, "draw first")


def test_the_page_is_accessible(page) -> None:
    from axe_playwright_python.sync_playwright import Axe

    draw(page)
    wait_for(page, " chose path ")
    found = Axe().run(page).response["violations"]
    ours = [one["id"] for one in found if any("#grid" in str(node["target"]) or "#told" in str(node["target"])
            for node in one["nodes"])]  # fmt: skip
    assert ours == []


# In a process of its own, as gradio's client leaves sockets open.
VISIT = """
import sys
from concurrent.futures import ThreadPoolExecutor
from gradio_client import Client

def visit(number):
    client, said = Client(sys.argv[1], verbose=False), "as the generator's checkpoint says"
    told, *_ = client.predict("a photo of a red cup", "tiny", "best-of-n", said, 2, number, api_name="/draw")
    return told

count = int(sys.argv[2])
with ThreadPoolExecutor(count) as pool:
    print(sum("chose path" in told for told in pool.map(visit, range(count))))
"""


def visited(app: App, count: int) -> int:
    """How many of so many visitors at once see what they asked for."""
    command = [sys.executable, "-W", "ignore", "-c", VISIT, app.address, str(count)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout)


def test_twenty_visitors_at_once(app) -> None:
    assert visited(app, 1) == 1
    before = app.resident
    assert visited(app, VISITORS) == VISITORS
    assert app.resident < before + 200


def test_files_of_the_machine_are_not_served(app) -> None:
    from urllib.error import HTTPError
    from urllib.request import urlopen

    for path in ("/etc/passwd", str(Path(__file__)), str(Path.cwd() / "pyproject.toml")):
        with pytest.raises(HTTPError) as failed:
            urlopen(f"{app.address}gradio_api/file={path}")
        with failed.value as answer:
            assert answer.code in (403, 404)


def test_an_app_that_was_killed_leaves_nothing_to_the_next() -> None:
    first = App()
    left = [*Path(tempfile.gettempdir()).glob(f"imagecot-app-{first.process.pid}-*")]
    assert len(left) == 1
    first.end(signal.SIGKILL)
    second = App()
    assert not left[0].exists()
    assert second.end() == 0
    assert not [*Path(tempfile.gettempdir()).glob(f"imagecot-app-{second.process.pid}-*")]
