"""What checkpoints bring along: their searches, verifiers, questions and worlds."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imagecot import load_verifier, models, registry
from imagecot.contracts import (
    CLARITY,
    ORM,
    POTENTIAL,
    Advised,
    Question,
)
from imagecot.contracts.verifier import Usage
from imagecot.errors import ImagecotError
from imagecot.search_config import SearchDefaults, copy_search_config, read_search_config, search_defaults
from imagecot.verifiers.wording import Habits, worded

torch.set_num_threads(1)

DRAWN = {"best-of-n": "tiny-orm", "stepwise": "tiny-prm", "parm": "tiny-parm", "parm++": "tiny-parm++"}
DRAWN |= dict.fromkeys(("adaptive", "hierarchical", "resample", "rewind"), "tiny-orm") | {"beam": "tiny-prm"}
ROUNDS = {
    "tiny-orm": {"threshold": 0.85, "fall": 0.64, "share": 0.3},
    "tiny-parm": {"threshold": 0.85, "fall": 0.64, "share": 0.3},
    "tiny-janus": {"threshold": 0.9998, "share": 0.2},
}
ROUNDS["tiny-parm++"] = ROUNDS["tiny-parm"]


@pytest.mark.parametrize("name", models.shipped("generator"))
def test_defaults_of_the_shipped_generators(name: str) -> None:
    said = registry.search_defaults(name)
    if name.startswith("tiny-janus"):
        assert (said.search, said.corrector, said.world) == ("best-of-n", None, "drawn")
        assert {*said.verifiers.values()} == {"tiny-janus", "tiny-janus-parm"}
    else:
        corrector = None if name == "tiny-self-correct" else "tiny-self-correct"
        assert said == SearchDefaults(search="parm", verifiers=DRAWN, corrector=corrector, world="drawn")
    for named in said.verifiers.values():
        assert named in models.shipped("verifier")
    assert registry.world_of(name) == "drawn"


@pytest.mark.parametrize("name", models.shipped("verifier"))
def test_defaults_of_the_shipped_verifiers(name: str) -> None:
    stopping = {"first_step": 6, "keep": 0.4}
    own = {"parm": stopping, "parm++": stopping} if name in ("tiny-parm", "tiny-parm++") else {}
    own |= {"parm": {"first_step": 5, "keep": 0.5}} if name == "tiny-janus-parm" else {}
    own |= {"adaptive": ROUNDS[name]} if name in ROUNDS else {}
    assert registry.advice(name) == own
    assert registry.search_defaults(name).questions == {}


def test_a_loaded_verifier_knows_its_habits() -> None:
    verifier = load_verifier("tiny-parm++")
    assert isinstance(verifier, Advised)
    assert verifier.advice == registry.advice("tiny-parm++")
    assert verifier.settings == {"precision": "float32"}
    assert verifier.usage == Usage()
    assert load_verifier("tiny-orm", dtype="int8").settings == {"precision": "int8"}
    assert load_verifier("tiny-orm", dtype=torch.bfloat16).settings == {"precision": "bfloat16"}


def test_of_what_is_not_known_nothing_is_said(here: Path) -> None:
    for name in ("acme/not-here", "theirs.own:Judges", "nothing"):
        assert registry.search_defaults(name) == SearchDefaults()
        assert registry.world_of(name) == "geneval"


def test_the_world_of_older_folders(here: Path, small: Path) -> None:
    folder = Path(shutil.copytree(small / "generator", here / "older"))
    assert registry.world_of("older") == "drawn"
    config = json.loads((folder / "config.json").read_text())
    for words, world in (([], "geneval"), (None, "geneval"), ("a", "geneval"), (["a"], "drawn")):
        (folder / "config.json").write_text(json.dumps(config | {"known_words": words}))
        assert registry.world_of("older") == world
    write(folder, {"world": "theirs.own:Lives"})
    assert registry.world_of("older") == "theirs.own:Lives"


def write(folder: Path, values: Any) -> None:
    (folder / "search_config.json").write_text(json.dumps(values))


def test_an_adapter_speaks_before_its_base(here: Path, small: Path) -> None:
    base = Path(shutil.copytree(small / "verifier", here / "base"))
    (here / "adapter").mkdir()
    (here / "adapter/adapter_config.json").write_text(json.dumps({
        "peft_type": "LORA", "base_model_name_or_path": str(base), "r": 4, "lora_alpha": 8, "target_modules": ["x"],
    }))  # fmt: skip
    write(base, {"searches": {"parm": {"keep": 0.1}}, "corrector": "someone", "world": "drawn"})
    assert search_defaults("adapter").searches == {"parm": {"keep": 0.1}}
    write(here / "adapter", {"searches": {"mine": {"deep": True}}, "corrector": None})
    said = search_defaults("adapter")
    assert said.searches == {"mine": {"deep": True}}  # as a whole
    assert (said.corrector, said.world) == (None, "drawn")
    (here / "copied").mkdir()
    copy_search_config("adapter", here / "copied")
    assert json.loads((here / "copied/search_config.json").read_text()) == {
        "searches": {"mine": {"deep": True}}, "world": "drawn",
    }  # fmt: skip
    write(here / "copied", {"world": "geneval"})
    copy_search_config(here / "adapter", here / "copied")  # what is there is kept
    assert read_search_config(here / "copied").world == "geneval"


def test_nothing_is_copied_where_nothing_is_said(here: Path, small: Path) -> None:
    for base in (str(small / "verifier"), "acme/not-here"):
        copy_search_config(base, here)
        assert not (here / "search_config.json").exists()
    copy_search_config("tiny-parm", here, {"clarity": "Is {prompt} clear?"})
    assert read_search_config(here).questions == {"clarity": "Is {prompt} clear?"}
    assert read_search_config(here).searches == registry.advice("tiny-parm")


def test_a_verifier_asks_in_the_words_that_it_was_trained_on(here: Path, small: Path) -> None:
    folder = Path(shutil.copytree(small / "verifier", here / "own"))
    images = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(3))
    plain = load_verifier(folder)
    templates = {"clarity": " Is it clear that it becomes {prompt}?", "orm": " {prompt}, yes?"}
    write(folder, {"questions": templates})
    own = load_verifier(folder)
    assert own.settings == {"precision": "float32", "questions": templates}
    clarity, orm = Question("clarity", templates["clarity"]), Question("orm", templates["orm"])
    potential = Question("potential", POTENTIAL.template, clarity)
    for asked, said in ((ORM, orm), (CLARITY, clarity), (POTENTIAL, potential)):
        answers = own.ask(images, ["a cat"], asked)
        torch.testing.assert_close(answers, plain.ask(images, ["a cat"], said))
        assert (answers - plain.ask(images, ["a cat"], asked)).abs().max() > 1e-4
    first, begun = own.begin(images, ["a cat"], CLARITY)
    torch.testing.assert_close(own.ask(images, ["a cat"], POTENTIAL, begun), own.ask(images, ["a cat"], POTENTIAL))
    # Another question that follows the paper's follows it in these words.
    again = Question("again", "Really?", CLARITY)
    torch.testing.assert_close(own.ask(images, ["a cat"], again, begun), own.ask(images, ["a cat"], again))
    assert first.shape == (2,)


def test_wording_of_one_question_changes_what_follows_it() -> None:
    habits = Habits(wording=worded({"clarity": "Clear, {prompt}?"}))
    clarity = Question("clarity", "Clear, {prompt}?")
    assert habits.said(CLARITY) == clarity == habits.said(clarity)
    assert habits.said(POTENTIAL) == Question("potential", POTENTIAL.template, clarity)
    assert habits.said(ORM) is ORM
    assert worded({}) == worded({"orm": ORM.template}) == {}


GOOD: Mapping[str, Any] = {
    "searches": {"parm": {"first_step": 6, "keep": 0.4}},
    "questions": {"clarity": "Clear, {prompt}?", "potential": "And then?"},
    "search": "parm", "verifiers": {"parm": "tiny-parm"}, "corrector": None, "world": "drawn",
}  # fmt: skip


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"serches": {}}, "serches is not a known key"),
        ({"searches": {"parm": 3}}, "searches.parm"),
        ({"searches": {"parm": {"keep": [1]}}}, "searches.parm.keep"),
        ({"questions": {"clarty": "{prompt}?"}}, "there is no question 'clarty'"),
        ({"questions": {"clarity": "Is it clear?"}}, "template of clarity must have {prompt} where"),
        ({"questions": {"potential": "Will it be {prompt}?"}}, "template of potential must have no {prompt}"),
        ({"questions": {"orm": ""}}, "questions.orm"),
        ({"verifiers": {"parm": None}}, "verifiers.parm"),
        ({"search": 3}, "search"),
        ({"world": ""}, "world"),
        ([], "object"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(here: Path, small: Path, values: Any, message: str) -> None:
    folder = Path(shutil.copytree(small / "verifier", here / "damaged"))
    write(folder, {**GOOD, **values} if isinstance(values, dict) else values)
    for use in (search_defaults, load_verifier, registry.world_of):
        with pytest.raises(ImagecotError, match=message.replace("{", r"\{")) as caught:
            use(str(folder))
        assert str(folder / "search_config.json") in str(caught.value)
        assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.just("x" * 5000),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=9), inner, max_size=2),
    max_leaves=5,
)


@given(st.sampled_from([*GOOD, "other"]), ODD)
def test_any_value_in_a_file(tmp_path_factory: pytest.TempPathFactory, field: str, value: Any) -> None:
    folder = tmp_path_factory.mktemp("any")
    write(folder, {**GOOD, field: value})
    works_or_says_why(folder)


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_in_a_file(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    (folder / "search_config.json").write_bytes(content)
    works_or_says_why(folder)


def works_or_says_why(folder: Path) -> None:
    try:
        read_search_config(folder)
    except ImagecotError as error:
        assert str(folder) in str(error)
        assert len(str(error)) < 1000


def test_a_folder_in_the_place_of_the_file(here: Path) -> None:
    (here / "search_config.json").mkdir()
    with pytest.raises(ImagecotError, match=r"search_config\.json is a folder"):
        read_search_config(here)
