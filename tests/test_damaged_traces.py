"""Traces, parts and folders of a search that are damaged: read, done again or one sentence, and nothing else."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from damage import damaged, damaged_bytes
from imagecot.contracts.reflection import Reflection
from imagecot.contracts.search import Candidate, Cost, Verdict
from imagecot.errors import ImagecotError, UsageError
from imagecot.strategies.folder import open_folder
from imagecot.strategies.resume import Partial
from imagecot.strategies.search import search
from imagecot.strategies.trace import Trace
from small_models import Brightness, Flat


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished trace with a stopped path, a resumed one, a round of reflection, and its lines."""
    image = Image.new("RGB", (8, 8))
    candidates = [
        Candidate(1, image, verdicts=[Verdict(3, "orm", 0.5)], score=0.5, reflection=Reflection("no, no cup", 0.2)),
        Candidate(2, truncated_at=2, first_clear=2, verdicts=[Verdict(2, "potential", 0.1)]),
        Candidate(3, image, resumed_at=1, score=0.25, round=1, corrects=0),
    ]
    place = tmp_path_factory.mktemp("trace")
    Trace(
        "a cup", "parm++", "flat", "bright", 2, 0, 3, {"keep": 0.4}, {}, candidates, 0, Cost(1.5, 9, 3, 3, 30)
    ).save(place)  # fmt: skip
    return place


def lines_of(folder):
    return [json.loads(line) for line in (folder / "trace.jsonl").read_text().split("\n") if line]


@given(data=st.data())
def test_a_damaged_line_is_a_trace_or_a_sentence(folder, data):
    lines = lines_of(folder)
    original = (folder / "trace.jsonl").read_bytes()
    number = data.draw(st.sampled_from(range(len(lines))))
    lines[number] = data.draw(damaged(lines[number]))
    try:
        (folder / "trace.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        trace = Trace.load(folder)
        assert trace.choice.truncated_at is None and trace.cost.seconds >= 0
    except ImagecotError as error:
        assert f"line {number + 1} of " in str(error) or "choice" in str(error)
        assert "\n" not in str(error)
    finally:
        (folder / "trace.jsonl").write_bytes(original)


@pytest.mark.parametrize("name", ["trace.jsonl", "image.png", "steps.png"])
@given(data=st.data())
def test_damaged_bytes_are_a_trace_or_a_sentence(folder, name, data):
    original = (folder / name).read_bytes()
    identity = Trace.load(folder).identity
    try:
        (folder / name).write_bytes(data.draw(damaged_bytes(original)))
        open_folder(folder, identity)
    except ImagecotError as error:
        assert str(folder) in str(error) and "\n" not in str(error)
    finally:
        (folder / name).write_bytes(original)


@given(data=st.data())
def test_a_damaged_part_is_what_it_was_or_done_again(tmp_path_factory, data):
    partial = Partial(tmp_path_factory.mktemp("run"), {"prompt": "a cup"})
    candidates = [Candidate(1, Image.new("RGB", (8, 8)), verdicts=[Verdict(3, "orm", 0.5)], score=0.5)]
    partial.save("paths", candidates, Cost(1.0, 2, 3, 4, 5))
    file = partial.folder / "paths.safetensors"
    file.write_bytes(data.draw(damaged_bytes(file.read_bytes())))
    found = partial.load("paths")
    assert found is None or len(found[0]) == 1


def test_a_link_in_the_place_of_the_parts_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/partial").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ImagecotError, match="partial is a link"):
        search("a cup", generator=Flat(steps=3), verifier=Brightness(), n=2, folder=tmp_path / "out")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_prompt_with_any_separator_is_read_back(tmp_path):
    prompt = "a\u2028b\x85c\x0cd\x1ce “f” \\n 🍎"
    for _ in range(2):
        trace = search(prompt, generator=Flat(steps=3), verifier=Brightness(), n=2, folder=tmp_path / "out")
        assert trace.prompt == prompt


def test_the_same_search_twice_at_once_ends_with_one_result(tmp_path):
    class Slower(Brightness):
        """While it judges, another process finishes the same search."""

        def ask(self, images, prompts, question, after=None):
            if not (tmp_path / "out/trace.jsonl").exists():
                search("a cup", generator=Flat(steps=3), verifier=Brightness(), n=2, **where)
            return super().ask(images, prompts, question, after)

    where = {"folder": tmp_path / "out", "names": {"verifier": "bright"}}
    trace = search("a cup", generator=Flat(steps=3), verifier=Slower(), n=2, **where)
    assert trace.chosen == Trace.load(tmp_path / "out").chosen
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "image.png",
        "previews.zip",
        "steps.png",
        "trace.jsonl",
    ]


NUMBERS = [float("nan"), 1.5, True, None, "3", [], -1, 0, 10**30, 2**63]


@pytest.mark.parametrize("name", ["n", "seed", "first_step", "keep"])
@pytest.mark.parametrize("value", NUMBERS)
def test_numbers_that_are_none_are_refused(name, value):
    request = {"n": 2, "seed": 0, "strategy": "parm", name: value}
    fine = {"seed": (-1, 0), "keep": (0,)}.get(name, ())
    if not isinstance(value, bool) and value in fine:
        return
    with pytest.raises(UsageError, match=r"\.$"):
        search("a cup", generator=Flat(steps=3), verifier=Brightness(), **request)


@pytest.mark.parametrize("prompt", [None, 7, [], "", " \n", "\u200b\ufeff\u2028", "\ud800 cup", "a\0b", "x" * 10_001])
def test_prompts_that_are_none_are_refused(prompt):
    with pytest.raises(UsageError, match=r"the prompt .*\.$"):
        search(prompt, generator=Flat(steps=3), verifier=Brightness())


@pytest.mark.parametrize("strategy", [None, 7, [], "", "best"])
def test_searches_that_are_none_are_refused(strategy):
    with pytest.raises(UsageError, match="is no search"):
        search("a cup", generator=Flat(steps=3), verifier=Brightness(), strategy=strategy)
