"""The page of `imagecot view` in a real headless Chromium: `make test-browser`.

Every page is watched: an error in the console, an exception, or a request to another place than this machine fails the
test in which it happens.
"""

import json
import re
import shutil
import threading
import time

import pytest

from imagecot.view import view
from imagecot.view.serve import Server
from viewed import HOSTILE, PARM_WRONG, curation_folder, evaluation_folder, run_folder, study_folder

pytestmark = pytest.mark.browser
MANY = 2000
PATIENCE = 60_000  # milliseconds: other work may share the machine


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """By name the index of a page: a run, a study, two evaluations of 2,000 prompts, a curation."""
    home = tmp_path_factory.mktemp("viewed")
    run_folder(home / "run")
    study_folder(home / "study")
    curation_folder(home / "curation")
    for name, share in (("a", 0.4), ("b", 0.8)):
        evaluation_folder(home / name, MANY, share, hostile=True)
    wanted = {"run": ["run"], "study": ["study"], "many": ["a", "b"], "curation": ["curation"]}
    return {name: view([home / one for one in folders], home / f"page-{name}") for name, folders in wanted.items()}


@pytest.fixture
def opened(browser, pages):
    """Open a page by its name, and watch it."""
    contexts, wrong = [], []

    def start(name, *, hash="", width=1280, height=900, dark=False, base=None, **options):
        scheme = "dark" if dark else "light"
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **options)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        page.asked = []
        page.goto((base or pages[name].as_uri()) + hash)
        page.wait_for_selector("html[data-ready]")
        return page

    yield start
    for context in contexts:
        for page in context.pages:
            outside = [url for url in page.asked if not re.match(r"file:///|http://127\.0\.0\.1:\d+/|data:", url)]
            assert outside == []
            assert page.evaluate("window.hurt") is None
        context.close()
    assert wrong == []


def text_of(page, selector):
    return page.locator(selector).inner_text()


def test_a_cell_of_a_run_tells_what_happened_there(opened):
    page = opened("run")
    cells = page.locator("#detail .grid tbody tr")
    assert cells.count() == 6
    page.get_by_role("button", name=re.compile("path 2, step 6")).click()
    told = text_of(page, ".inspector")
    heading, cost = "Path 2, after step 6 of 18", "6 steps, 2 questions asked"
    for words in (heading, "clarity", "0.8000", "potential", "0.3000", "✗ no", "blank", "stopped here", cost):
        assert words in told, words
    assert page.locator(".inspector img").evaluate("image => image.complete && image.naturalWidth") == 16
    page.keyboard.press("ArrowLeft")
    assert "after step 4" in text_of(page, ".inspector")
    assert "✕ stop" in text_of(page, "#detail .grid") and "★ taken" in text_of(page, "#detail .grid")


def test_the_tree_and_the_rounds_of_a_run(opened):
    page = opened("run")
    assert page.locator("svg.tree").get_attribute("aria-label") == "path 3 left path 1 at step 8"
    rounds = text_of(page, ".round")
    assert "What is wrong with path 1 (P(yes) 0.40)?" in rounds and "100 % of the pixels" in rounds
    assert "P(yes) 0.40 before, 0.90 for the best that was drawn in its place: better." in rounds


@pytest.mark.parametrize("name", ["run", "many", "curation"])
def test_html_in_data_stays_text(name, opened):
    page = opened(name, hash="#view=prompts&p=0")
    page.wait_for_selector("#detail .side")
    assert page.locator("main b", has_text="bold").count() == 0
    assert page.locator("main script, main img[onerror]").count() == 0
    assert "<b>bold</b>" in page.locator("#detail").inner_text()
    assert page.evaluate("window.hurt") is None


def test_a_newcomer_finds_what_parm_got_wrong_and_why(opened):
    page = opened("study")
    page.get_by_label("The method that is wrong").select_option("PARM")
    page.get_by_label("The method that is right").select_option("fine-tuned ORM")
    page.get_by_role("button", name="Show 1 prompt").click()
    page.wait_for_selector("#detail .story")
    assert text_of(page, "#detail h2") == f"a photo of {PARM_WRONG + 1} cups"
    sides = page.locator("#detail .side")
    wrong, good = sides.nth(0).inner_text(), sides.nth(1).inner_text()
    assert "PARM" in wrong and "Path 2 is right, but it was stopped after step 6: potential P(yes) 0.31." in wrong
    assert "fine-tuned ORM" in good and "It is right." in good
    assert text_of(page, "#count") == "1 of 6 prompts"


def test_score_over_seconds_is_drawn_and_told(opened):
    page = opened("study")
    plots = page.locator("svg.plot")
    assert plots.count() == 2
    assert plots.first.locator("path.dot").count() == 5
    page.locator("summary", has_text="as numbers").first.click()
    assert "0.600" in page.locator("#overview").inner_text()


def test_two_thousand_prompts_filter_sort_search_and_stay_few_in_the_page(opened, pages):
    page = opened("many", hash="#view=prompts&a=0&b=1", height=800)
    rows = [json.loads(line) for line in (pages["many"].parent.parent / "a/results.jsonl").read_text().splitlines()]
    other = [json.loads(line) for line in (pages["many"].parent.parent / "b/results.jsonl").read_text().splitlines()]
    better = sum(not a["correct"] and b["correct"] for a, b in zip(rows, other, strict=True))
    assert text_of(page, "#count") == f"{MANY} prompts"
    assert page.locator(".item").count() < 40
    page.locator("#list").evaluate("list => list.scrollTo(0, list.scrollHeight)")
    page.wait_for_selector(f'.item[aria-posinset="{MANY}"]')
    assert page.locator(".item").count() < 40
    took = page.evaluate(
        """() => { const began = performance.now();
                   const pick = document.querySelector('#pick-verdict');
                   pick.value = 'wr'; pick.dispatchEvent(new Event('change')); return performance.now() - began; }"""
    )
    assert took < 1000
    assert text_of(page, "#count") == f"{better} of {MANY} prompts"
    page.locator("#pick-verdict").select_option("")
    page.locator("#search").fill("thing 1999")
    assert text_of(page, "#count") == f"1 of {MANY} prompts"
    page.locator("#search").fill("")
    page.locator("#pick-task").select_option("counting")
    page.locator("#pick-sort").select_option("text")
    assert text_of(page, "#count") == f"{sum(row['tag'] == 'counting' for row in rows)} of {MANY} prompts"
    page.get_by_label("judges disagree").check()
    second = (pages["many"].parent.parent / "a/results-second.jsonl").read_text().splitlines()
    disagree = sum(
        row["correct"] != json.loads(line)["correct"]
        for row, line in zip(rows, second, strict=True)
        if row["tag"] == "counting"
    )
    assert text_of(page, "#count") == f"{disagree} of {MANY} prompts"


def test_it_is_served_on_loopback_and_pictures_come_when_they_are_seen(opened, pages):
    with Server(pages["many"].parent, 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            page = opened("many", base=server.address, hash="#view=prompts&a=0")
            page.wait_for_selector(".item img")
            page.wait_for_timeout(500)
            first = {url for url in page.asked if "/pictures/" in url}
            assert 0 < len(first) < 60
            page.locator("#list").evaluate("list => list.scrollTo(0, 90000)")
            page.wait_for_selector('.item[aria-posinset="980"]')
            page.wait_for_timeout(500)
            assert {url for url in page.asked if "/pictures/" in url} > first
            assert sum("/data/told-" in url for url in page.asked) == 0
            page.locator(".item").first.click()
            page.wait_for_selector("#detail .side")
            assert sum("/data/told-" in url for url in page.asked) == 1
            page.goto("about:blank")
        finally:
            server.shutdown()
            thread.join()


def test_everything_by_the_keyboard(opened):
    page = opened("many", hash="#view=prompts&a=0&b=1")
    page.keyboard.press("j")
    page.wait_for_selector("#detail .side")
    first = text_of(page, "#detail h2")
    page.keyboard.press("j")
    page.wait_for_function("before => document.querySelector('#detail h2').innerText !== before", arg=first)
    page.keyboard.press("k")
    page.wait_for_function("before => document.querySelector('#detail h2').innerText === before", arg=first)
    page.keyboard.press("x")
    assert page.evaluate("location.hash").startswith("#view=prompts&p=0&a=1&b=0")
    page.keyboard.press("/")
    page.keyboard.type("thing 77")
    assert text_of(page, "#count") == f"{sum('77' in str(k) for k in range(MANY))} of {MANY} prompts"
    page.keyboard.press("Escape")
    page.keyboard.press("r")
    assert text_of(page, "#count") == f"{MANY} prompts"
    page.keyboard.press("?")
    assert page.locator("dialog[open]").count() == 1 and "next, previous prompt" in text_of(page, "#keys")
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    page.keyboard.press("o")
    assert page.locator("#overview").is_visible()
    page.go_back()
    assert page.locator("#prompts").is_visible()


def test_a_narrow_screen_shows_all_without_sideways_scrolling(opened):
    for name in ("run", "study", "many"):
        page = opened(name, hash="#view=prompts", width=400, height=800)
        wide = "document.documentElement.scrollWidth"
        assert page.evaluate(wide) <= 400
        page.locator(".item").first.click()
        page.wait_for_selector("#detail .side")
        assert not page.locator("#finder").is_visible() and page.evaluate(wide) <= 400
        page.get_by_role("button", name="all prompts").click()
        assert page.locator("#finder").is_visible()
        page.keyboard.press("o")
        assert page.evaluate(wide) <= 400


def test_dark_as_the_system_says_and_by_a_key(opened):
    page = opened("run", dark=True)
    shade = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(shade)
    page.keyboard.press("t")
    light = page.evaluate(shade)
    assert dark != light and sum(map(int, re.findall(r"\d+", dark))) < 200 < sum(map(int, re.findall(r"\d+", light)))


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(("name", "hash"), [
    ("run", "#view=prompts&p=0"), ("study", ""), ("study", "#view=prompts&p=2&a=0&b=1"),
    ("many", "#view=prompts&p=1&a=0&b=1"), ("curation", "#view=prompts&p=0"),
])  # fmt: skip
def test_accessible_by_the_rules_of_axe(name, hash, dark, opened):
    from axe_playwright_python.sync_playwright import Axe

    page = opened(name, hash=hash, dark=dark, bypass_csp=True)
    if "p=" in hash:
        page.wait_for_selector("#detail .side")
        if page.locator(".cell").count():
            page.locator(".cell").first.click()
    found = Axe().run(page).response["violations"]
    told = [(one["id"], one["nodes"][0]["html"][:200], one["nodes"][0].get("failureSummary")) for one in found]
    assert told == []
    page.keyboard.press("?")
    found = Axe().run(page, context="#keys").response["violations"]
    assert [one["id"] for one in found] == []


def test_a_page_without_its_data_says_so(browser, pages, tmp_path):
    shutil.copytree(pages["run"].parent, tmp_path / "broken")
    (tmp_path / "broken/data/list-0.js").unlink()
    page = browser.new_page()
    page.goto((tmp_path / "broken/index.html").as_uri())
    page.wait_for_selector("[role=alert]", timeout=PATIENCE)
    assert text_of(page, "[role=alert]") == "data/list-0.js cannot be loaded; is the whole folder there?"
    page.close()


def test_many_prompts_open_in_little_time(opened):
    began = time.monotonic()
    page = opened("many", hash="#view=prompts&p=1500")
    page.wait_for_selector("#detail .side")
    assert "thing 1500" in text_of(page, "#detail h2")
    assert time.monotonic() - began < 40  # two seconds where nothing else runs
    assert HOSTILE not in page.title()
