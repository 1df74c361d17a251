"""Every recipe is followed from Python as from the command line: made there, or read from a file.

The second time in the same folder, what was finished is found again.
"""

from pathlib import Path

import pytest
import torch
import yaml

import imagecot.benchmark
import imagecot.curation
import imagecot.evaluation
import imagecot.generation
import imagecot.study
import imagecot.training
from imagecot import recipes
from imagecot.benchmark import BenchmarkRecipe
from imagecot.curation import CurateOrm, CuratePrompts
from imagecot.errors import UsageError
from imagecot.evaluation import EvaluationRecipe
from imagecot.generation import GenerationRecipe
from imagecot.kinds import KINDS
from imagecot.recipes import follow, kind_of, read
from imagecot.training.optimization import Optimization
from imagecot.watch import Watch
from imagecot.worlds.drawn.training.tokenizer import TokenizerRecipe
from small_models import write_generator, write_verifier

torch.set_num_threads(1)
ROOT = Path(__file__).parent.parent / "recipes"
APPLE = "a photo of a red apple"


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    generator, verifier = write_generator(folder / "generator"), write_verifier(folder / "verifier")
    return {"generator": str(generator), "verifier": str(verifier)}


def written(folder: Path, **values: object) -> Path:
    """A recipe as a file."""
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump({name: str(v) if isinstance(v, Path) else v for name, v in values.items()}))
    return file


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_has_a_class_that_says_it_and_a_function(name):
    model = KINDS[name].model()
    assert next(iter(model.model_fields)) == "kind" and model.model_fields["kind"].default == name
    assert callable(KINDS[name].function())


def test_a_training(tmp_path):
    changes = [
        f"output={tmp_path / 'out'}", f"data={tmp_path / 'data'}", "examples=8", "soft_steps=2",
        "optimization.steps=3", "optimization.batch_size=2", "optimization.bf16=false", "model.channels=32",
        "model.encoder_mult=[1, 1]", "model.decoder_mult=[1, 1]", "model.encoder_blocks=[1, 1]",
        "model.decoder_blocks=[1, 1]", "model.code_bits=6",
    ]  # fmt: skip
    recipe = read(ROOT / "tiny/tokenizer.yaml", changes)
    assert isinstance(recipe, TokenizerRecipe)
    made = TokenizerRecipe(**recipe.model_dump())
    first, again = imagecot.training.run(made), imagecot.training.run(recipe)
    for one, other in zip(first.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_a_generation(models, tmp_path):
    recipe = GenerationRecipe(prompt=APPLE, output=tmp_path / "made", **models, search="best-of-n", n=2)
    told: list[str] = []
    trace = imagecot.generation.run(recipe, watch=Watch(tell=told.append))
    assert (trace.n, len(trace.candidates), told) == (2, 2, [])
    assert (tmp_path / "made/image.png").is_file()
    asked = recipe.model_dump(exclude_defaults=True) | {"kind": "generate", "output": tmp_path / "read"}
    again = follow(read(written(tmp_path, **asked)))
    assert [c.seed for c in again.candidates] == [c.seed for c in trace.candidates]
    assert imagecot.generation.run(recipe).chosen == trace.chosen  # read back
    unknown = GenerationRecipe(prompt="a red wheel", output=tmp_path / "other", **models, search="single")
    imagecot.generation.run(unknown, watch=Watch(tell=told.append))
    assert told == [f"warning: {models['generator']} does not know wheel; the image may leave that out."]


def test_the_command_prints_what_the_command_of_a_kind_prints(imagecot, models, tmp_path):
    asked = {"prompt": APPLE, "output": "out", **models, "search": "best-of-n", "n": 2}
    file = written(tmp_path, kind="generate", **asked)
    code, out, err = imagecot("run", str(file))
    assert (code, err) == (0, "") and out.startswith("path ") and out.endswith(": out/image.png, steps.png\n")
    code, out, _ = imagecot("run", str(file), "output=none", "n=0")
    assert code == 2 and not (tmp_path / "none").exists()
    code, out, _ = imagecot("validate", str(file))
    assert (code, out) == (0, f"{file} is a valid generate recipe\n")


def test_a_study_records_the_command_that_takes_its_rows(imagecot, monkeypatch):
    """The report adds `--rows` to it, which `imagecot run` has not."""
    seen = []
    monkeypatch.setattr("imagecot.study.follow.run", lambda recipe, *, command, **_: seen.append(command))
    file = ROOT / "study/quick.yaml"
    code, out, err = imagecot("run", str(file), "n=2", "output=a b")
    assert (code, out, err) == (0, "a b/summary.json; next: imagecot report a b\n", "")
    assert seen == [f"imagecot study {file} n=2 'output=a b'"]


def test_an_evaluation(tmp_path):
    recipe = EvaluationRecipe(output=tmp_path / "out", generator="tiny", per_task=1, samples=1)
    done: list[tuple[int, int]] = []
    summary = imagecot.evaluation.run(recipe, watch=counting(done))
    assert summary is not None and done[-1][0] == done[-1][1]
    asked = {"kind": "geneval", "output": tmp_path / "out", "generator": "tiny", "per_task": 1, "samples": 1}
    again = read(written(tmp_path, **asked))
    assert again == recipe and follow(again) == summary


def test_a_curation(tmp_path):
    prompts = imagecot.curation.run(CuratePrompts(output=tmp_path / "prompts.jsonl", per_task=1))
    first = prompts.place.read_text().splitlines()[0]
    prompts.place.write_text(f"{first}\n")
    recipe = CurateOrm(prompts=prompts.place, output=tmp_path / "out", generator="tiny", paths=2, keep=2)
    made = imagecot.curation.run(recipe)
    assert sum(made.counts.values()) > 0
    asked = {"kind": "curate-orm", "prompts": prompts.place, "output": tmp_path / "out", "paths": 2, "keep": 2}
    again = read(written(tmp_path, **asked))
    assert again == recipe and follow(again) == made


def test_a_study(tmp_path):
    changes = ["prompts_per_task=1", "timed_prompts=0", "gallery=0", "n=2", "precision=float32"]
    recipe = read(ROOT / "study/quick.yaml", [*changes, f"output={tmp_path / 'study'}"]).only(["baseline"])
    summary = imagecot.study.run(recipe)
    assert (tmp_path / "study/summary.json").is_file()
    assert type(follow(recipe)) is type(summary)


def test_a_benchmark(models, tmp_path):
    recipe = BenchmarkRecipe(output=tmp_path / "out", generator=models["generator"], steps=1, n=1, largest=1, repeats=1)
    asked = recipe.model_dump(exclude_defaults=True) | {"kind": "benchmark"}
    assert read(written(tmp_path, **asked)) == recipe
    done: list[tuple[int, int]] = []
    result = imagecot.benchmark.run(recipe, watch=counting(done))
    assert result.generator == models["generator"] and done[-1] == (7, 7)
    assert (tmp_path / "out/benchmark.json").is_file()


def test_what_is_measured_stays_in_its_number_format(monkeypatch):
    monkeypatch.setattr(recipes, "has_bfloat16", lambda: False)
    seen = []
    monkeypatch.setattr("imagecot.benchmark.follow.run", lambda recipe, *, watch: seen.append(recipe.precision))
    monkeypatch.setattr("imagecot.generation.follow.run", lambda recipe, *, watch: seen.append(recipe.precision))
    told: list[str] = []
    for recipe in (
        BenchmarkRecipe(config="tiny", precision="bfloat16"),
        GenerationRecipe(prompt=APPLE, precision="bfloat16"),
    ):
        follow(recipe, watch=Watch(tell=told.append))
    assert seen == ["bfloat16", "float32"]
    assert told == ["this processor has no bfloat16; float32 is used instead."]


def test_what_is_no_recipe_is_one_sentence():
    for wrong in (
        "recipes/tiny/dpo.yaml",
        {"kind": "dpo"},
        None,
        Optimization(steps=1, batch_size=1, learning_rate=1.0),
    ):
        with pytest.raises(UsageError, match=r"is no recipe that can be followed; .*\.$"):
            follow(wrong)
    with pytest.raises(UsageError, match="trainings are tokenizer"):
        imagecot.training.run(GenerationRecipe(prompt=APPLE))
    assert kind_of(GenerationRecipe(prompt=APPLE)) == "generate"
    with pytest.raises(UsageError, match=r"no kind of recipe 'dop' \(did you mean dpo\?\)"):
        read(ROOT / "tiny/dpo.yaml", kind="dop")
    with pytest.raises(UsageError, match="is a recipe of the kind dpo; follow it by: imagecot train"):
        read(ROOT / "tiny/dpo.yaml", kind="study")


def counting(done: list[tuple[int, int]]) -> Watch:
    """A watch that notes how far a work is."""
    from contextlib import nullcontext

    return Watch(progress=lambda text: nullcontext(lambda at, of, note="": done.append((at, of))))
