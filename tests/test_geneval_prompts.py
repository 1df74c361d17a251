import gzip
import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

from imagecot.contracts.metadata import Metadata
from imagecot.errors import UsageError
from imagecot.geneval import prompts
from imagecot.geneval.prompts import (
    COLORS,
    OBJECT_NAMES,
    load_benchmark_prompts,
    make_prompts,
    refuse_overlap,
)

DATA = Path(__file__).parent / "data" / "geneval"
CASES = json.loads(gzip.decompress((DATA / "prompt_cases.json.gz").read_bytes()))
SMALL = ["apple", "bus", "umbrella", "cup"]


def sha256(lines: list[str]) -> str:
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


@pytest.mark.parametrize("case", CASES, ids=[f"seed{c['seed']}-n{c['n']}" for c in CASES])
def test_same_bytes_as_the_reference(case: dict) -> None:
    made = make_prompts(seed=case["seed"], n=case["n"])
    assert Counter(sample["tag"] for sample in made) == case["per_tag"]
    assert len(made) == case["total"]
    for tag, first in case["first_prompts"].items():
        assert [s["prompt"] for s in made if s["tag"] == tag][: len(first)] == first
    assert sha256([s["prompt"] for s in made]) == case["sha256_generation_prompts"]
    assert sha256([json.dumps(s) for s in made]) == case["sha256_evaluation_metadata"]


def test_there_are_twenty_recorded_sets() -> None:
    assert len(CASES) == 20


def test_benchmark_is_the_published_file_and_what_the_sampler_makes() -> None:
    shipped = load_benchmark_prompts()
    assert len(shipped) == 553
    published = "5c48e0813e812e3c373fa5c8ed07a8f0a483be30272b4427b0559c8048e67c13"
    assert sha256([metadata.text for metadata in shipped]) == published
    assert [metadata.as_json() for metadata in shipped] == make_prompts()
    assert shipped == prompts.sample_prompts()


def test_benchmark_prompts_are_fresh_copies() -> None:
    load_benchmark_prompts().clear()
    assert load_benchmark_prompts()[0].prompt == "a photo of a bench"


@pytest.mark.parametrize("make", [make_prompts, lambda: [m.as_json() for m in load_benchmark_prompts()]])
def test_metadata_keep_the_text_that_they_were_read_from(make) -> None:
    for values in make()[::7]:
        metadata = Metadata.of({**values, "note": ["a", None]})
        assert json.loads(metadata.text) == {**values, "note": ["a", None]}
        assert Metadata(metadata.tag, metadata.prompt, metadata.include, metadata.exclude).text == json.dumps(values)
        other = metadata.worded("something else")
        assert (other.prompt, other.include) == ("something else", metadata.include)
        assert other.as_json() == {**metadata.as_json(), "prompt": "something else"}
        backwards = Metadata.of(dict(reversed(metadata.as_json().items())))
        assert backwards.key == metadata.key != other.key


@pytest.mark.parametrize("change", [{"tag": 3}, {"include": [7]}, {"include": {}}, {"include": [{"class": "cup"}]}])
def test_what_is_no_metadata_is_no_metadata(change: dict) -> None:
    with pytest.raises(ValueError, match="GenEval"):
        Metadata.of({**make_prompts()[0], **change})


def test_licence_notice_is_beside_the_data() -> None:
    notice = (Path(prompts.__file__).parent / "data" / "LICENSE.geneval").read_text()
    assert "MIT License" in notice and "Dhruba Ghosh" in notice


def test_object_names_are_the_published_list() -> None:
    published = "608f6a0e5c8ca1c7a92b818430141fe268c85b7930b50f4160f1d65893b5bacd"
    text = "\n".join(OBJECT_NAMES)
    assert published in {hashlib.sha256(t.encode()).hexdigest() for t in (text, text + "\n")}
    assert len(COLORS) == 10


def test_wording() -> None:
    assert prompts.with_article("orange car") == "an orange car"
    assert prompts.with_article("wine glass") == "a wine glass"
    assert prompts.plural("bus") == "buses"
    assert prompts.plural("wine glass") == "wine glasses"
    assert prompts.plural("sheep") == "sheeps"
    assert prompts.single_object_prompt("umbrella") == "a photo of an umbrella"
    assert prompts.two_object_prompt("apple", "dog") == "a photo of an apple and a dog"
    assert prompts.counting_prompt("knife", 4) == "a photo of four knifes"
    assert prompts.colors_prompt("orange", "orange") == "a photo of an orange orange"
    assert prompts.position_prompt("dog", "above", "oven") == "a photo of a dog above an oven"
    assert prompts.color_attr_prompt("apple", "red", "bus", "orange") == "a photo of a red apple and an orange bus"


def test_metadata_of_a_position_prompt_has_the_target_first() -> None:
    assert prompts.position_metadata("dog", "left of", "cat").text == (
        '{"tag": "position", "include": [{"class": "cat", "count": 1}, '
        '{"class": "dog", "count": 1, "position": ["left of", 0]}], '
        '"prompt": "a photo of a dog left of a cat"}'
    )


def test_small_vocabulary_covers_the_world_without_duplicates() -> None:
    made = make_prompts(seed=1, n=2000, names=SMALL, colors=["red", "blue"])
    counts = Counter(sample["tag"] for sample in made)
    # names; ordered pairs; names × 3 counts; names × 2 colours; pairs × 4 relations; pairs × 2 colour orders
    expected = {
        "single_object": 4,
        "two_object": 12,
        "counting": 12,
        "colors": 8,
        "position": 48,
        "color_attr": 24,
    }
    assert counts == expected
    assert len({sample["prompt"] for sample in made}) == len(made)


@pytest.mark.parametrize("names", [["apple", "person", "cup"], ["person", "cup", "bus"], ["cup", "bus", "person"]])
def test_person_has_no_colour_wherever_it_stands(names: list[str]) -> None:
    made = make_prompts(n=200, names=names)
    painted = Counter(r["class"] for s in made for r in s["include"] if "color" in r)
    assert set(painted) == set(names) - {"person"}
    assert any(r["class"] == "person" for s in made if s["tag"] == "position" for r in s["include"])


def test_single_objects_only() -> None:
    assert [s["prompt"] for s in make_prompts(n=0, names=["apple"])] == ["a photo of an apple"]


@pytest.mark.parametrize(
    "options",
    [
        {"n": -1},
        {"seed": -1},
        {"names": ["apple"]},
        {"names": ["apple", "apple"]},
        {"names": ["apple", ""]},
        {"names": ["apple", "person"]},
        {"colors": ["red"]},
        {"colors": ["red", "red"]},
    ],
)
def test_impossible_vocabularies_are_refused(options: dict) -> None:
    with pytest.raises(UsageError):
        make_prompts(**options)


def test_counts_without_a_word_are_refused() -> None:
    with pytest.raises(UsageError, match="11"):
        prompts.counting_prompt("cup", 11)


def test_overlap_of_training_and_test_is_refused_up_to_case_and_blanks() -> None:
    refuse_overlap(["a photo of a dog"], ["a photo of a cat"])
    with pytest.raises(UsageError, match="A photo  of a Cat "):
        refuse_overlap(["a dog", "A photo  of a Cat ", "a bus"], ["a photo of a bus", "a photo of a cat", "a bus"])
