"""The command line around `generate`: help, models, recipes."""

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict
from rich.console import Console

import imagecot.hub
from imagecot import __version__, cli, recipes
from imagecot.commands import output
from imagecot.commands.train import spelt
from imagecot.errors import UsageError
from imagecot.models import kinds_of_folder, known_words, list_models

RECIPES = Path(__file__).parent.parent / "recipes"


class Optimization(BaseModel):
    model_config = ConfigDict(extra="forbid")
    steps: int
    learning_rate: float = 0.1


class Recipe(BaseModel):
    model_config = ConfigDict(extra="forbid")
    output: Path
    optimization: Optimization
    sizes: dict[str, int] = {}


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "imagecot", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=100)


def recipe(tmp_path: Path, text: str) -> Path:
    (tmp_path / "recipe.yaml").write_text(text)
    return tmp_path / "recipe.yaml"


@pytest.mark.parametrize(
    "command", [[], ["generate"], ["evaluate", "geneval"], ["train"], ["study"], ["run"], ["validate"], ["models"]]
)
def test_help_comes_without_torch(command):
    code = (
        "import sys; from imagecot import cli; sys.argv = ['imagecot', *sys.argv[1:], '--help']\n"
        "try: cli.main()\n"
        "except SystemExit as stop: code = stop.code\n"
        "heavy = {'torch', 'transformers', 'numpy', 'PIL', 'huggingface_hub'} & set(sys.modules)\n"
        "print(code, sorted(heavy))"
    )
    result = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "0 []"
    if command and command != ["models"]:
        assert "Example" in result.stdout


def test_version_and_usage():
    assert run("--version").stdout == f"imagecot {__version__}\n"
    result = run("generat")
    assert result.returncode == 2
    assert "No such command 'generat'" in result.stderr


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("generate x --generator showlab/", ["showlab/show-o", "showlab/show-o-512x512"]),
        ("generate x --search parm", ["parm", "parm++"]),
        ("generate x --kee", ["--keep"]),
        ("evaluate geneval x --first", ["--first-step"]),
    ],
)
def test_names_are_completed(words, found):
    environment = {
        **os.environ,
        "_IMAGECOT_COMPLETE": "complete_bash",
        "COMP_WORDS": f"imagecot {words}",
        "COMP_CWORD": str(len(words.split())),
    }
    code = "from imagecot import cli; import sys; sys.argv = ['imagecot']; cli.main()"
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert result.stdout.split() == found


def test_models_lists_shipped_and_cached(monkeypatch, tmp_path):
    import torch
    from safetensors.torch import save_file

    monkeypatch.setattr(imagecot.hub, "CHECKPOINTS", tmp_path)
    (tmp_path / "small").mkdir()
    (tmp_path / "small/config.json").write_text(json.dumps({"llm_vocab_size": 9, "known_words": ["Cup"]}))
    save_file({"a": torch.zeros(1000, 3), "b": torch.zeros(500)}, tmp_path / "small/model.safetensors")
    snapshot = tmp_path / "hub/models--showlab--magvitv2/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / "pytorch_model.bin").write_bytes(b"1234567")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    rows = {row.name: row for row in list_models()}
    small = rows["small"]
    assert (small.kinds, small.parameters, small.on_disk) == (("generator",), "0.0 M", True)
    assert small.size == (tmp_path / "small/model.safetensors").stat().st_size
    assert (rows["showlab/magvitv2"].size, rows["showlab/magvitv2"].on_disk) == (7, True)
    assert not rows["showlab/show-o"].on_disk
    assert known_words("small") == {"cup"}
    assert kinds_of_folder(tmp_path) == ()


def test_models_prints_a_row_for_each():
    result = run("models")
    assert result.returncode == 0
    for name in (
        "showlab/show-o",
        "llava-hf/llava-onevision-qwen2-7b-ov-hf",
        "ZiyuG/Image-Generation-CoT:parm",
    ):
        assert name in result.stdout


@pytest.mark.parametrize("name", ["tokenizer", "generator"])
def test_a_wrong_key_of_the_model_is_named(name, imagecot):
    """The sizes of a model are checked too, before anything is drawn or trained."""
    code, _, err = imagecot("validate", str(RECIPES / f"tiny/{name}.yaml"), "model.chanels=3")
    assert code == 2
    assert "chanels is not a known key" in err
    assert err.count("\n") == 1


def test_all_problems_of_a_recipe_are_named_at_once(tmp_path):
    file = recipe(tmp_path, "optimisation: {}\noptimization: {stepz: 3, learning_rate: fast}\nsizes: {a: x}\n")
    found = recipes.problems(recipes.read_yaml(file), Recipe)
    assert found == [
        "output is missing",
        "optimization.steps is missing",
        "optimization.learning_rate: input should be a valid number, unable to parse string as a number, not 'fast'",
        "optimization.stepz is not a known key (did you mean steps?)",
        "sizes.a: input should be a valid integer, unable to parse string as an integer, not 'x'",
        "optimisation is not a known key (did you mean optimization?)",
    ]
    with pytest.raises(UsageError, match=r"^r.yaml has 6 problems: output is missing; .*\.$"):
        recipes.check(recipes.read_yaml(file), Recipe, "r.yaml")


def test_overrides(tmp_path):
    values = recipes.read_yaml(recipe(tmp_path, "output: out\noptimization: {steps: 3}\n"))
    assignments = ["optimization.learning_rate=1e-4", "sizes.a=5", "output=b=c", "optimization.steps=7"]
    changed = recipes.override(values, assignments)
    checked = recipes.check(changed, Recipe, "r.yaml")
    assert checked == Recipe(output=Path("b=c"), optimization=Optimization(steps=7, learning_rate=1e-4), sizes={"a": 5})
    assert values == {"output": "out", "optimization": {"steps": 3}}
    for assignment, message in (
        ("steps", "write key=value"),
        ("=3", "write key=value"),
        ("output.x=3", "output is not a group of keys"),
        ("output=[", "is not YAML"),
    ):
        with pytest.raises(UsageError, match=message):
            recipes.override(values, [assignment])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("output: a\nx: 1\noutput: b\n", "line 3: the key 'output' is given twice"),
        ("a: &a {b: 1}\nc: {<<: *a, b: 2, b: 3}\n", "line 2: the key 'b' is given twice"),
        ("a: {b: 1, b: 2}\n", "line 1: the key 'b' is given twice"),
        ("a: [1\n", "line 2"),
        ("- a\n", "must be a mapping"),
        ("", "must be a mapping"),
        ("a: !!python/object:os.system x\n", "could not determine a constructor"),
    ],
)
def test_yaml_that_is_no_recipe(text, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        recipes.read_yaml(recipe(tmp_path, text))


def test_a_mapping_takes_over_the_keys_of_another(tmp_path):
    text = "a: &a {n: 20, keep: 0.4}\nb: {<<: *a, keep: 0}\n"
    assert recipes.read_yaml(recipe(tmp_path, text)) == {"a": {"n": 20, "keep": 0.4}, "b": {"n": 20, "keep": 0}}


def test_recipe_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match="there is no recipe"):
        recipes.read_yaml(tmp_path / "nothing.yaml")
    with pytest.raises(UsageError, match="is a folder; pass a YAML file"):
        recipes.read_yaml(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is not UTF-8 text"):
        recipes.read_yaml(tmp_path / "binary.yaml")


def call(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["imagecot", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


@pytest.mark.parametrize("file", sorted(RECIPES.rglob("*.yaml")), ids=lambda file: str(file.relative_to(RECIPES)))
def test_every_recipe_is_valid(file, monkeypatch, capsys):
    assert call("validate", str(file), monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out.startswith(f"{file} is a valid ")


def test_train_calls_the_training_with_the_checked_recipe(monkeypatch, capsys):
    import imagecot.worlds.drawn.training.tokenizer as module

    file, seen = str(RECIPES / "tiny/tokenizer.yaml"), []
    monkeypatch.setattr(recipes, "has_bfloat16", lambda: True)
    monkeypatch.setattr(module, "train_tokenizer", lambda recipe, *, watch: seen.append(recipe))
    for said in (["train", file], ["train", "tokenizer", file], ["run", file]):
        assert call(*said, "optimization.steps=7", monkeypatch=monkeypatch) == 0
        recipe = seen.pop()
        assert isinstance(recipe, module.TokenizerRecipe)
        assert recipe.optimization.steps == 7
    assert capsys.readouterr() == ("", "")

    assert call("train", "tokenizer", file, "optimization.step=7", monkeypatch=monkeypatch) == 2
    assert "optimization.step is not a known key (did you mean steps?)" in capsys.readouterr().err
    assert call("train", "tokeniser", file, monkeypatch=monkeypatch) == 2
    assert "did you mean tokenizer?" in capsys.readouterr().err

    def interrupt(_: object, *, watch: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "train_tokenizer", interrupt)
    assert call("train", "tokenizer", file, monkeypatch=monkeypatch) == 130
    assert "the same command continues" in capsys.readouterr().err
    assert seen == []


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("r.yaml", ("", "r.yaml", [])),
        ("r.yaml a=1", ("", "r.yaml", ["a=1"])),
        ("r.yaml a", ("", "r.yaml", ["a"])),
        ("dpo r.yaml a=1", ("dpo", "r.yaml", ["a=1"])),
        ("dpo a=1", ("", "dpo", ["a=1"])),
        ("dpo x=1.yaml a=1", ("dpo", "x=1.yaml", ["a=1"])),
        ("runs/none.yaml a", ("", "runs/none.yaml", ["a"])),
    ],
)
def test_the_kind_may_stand_before_the_recipe(words, found, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("r.yaml", "x=1.yaml"):
        (tmp_path / name).touch()
    first, *rest = words.split()
    assert spelt(first, rest) == (found[0], Path(found[1]), found[2])


def test_the_command_line_starts_without_what_only_its_work_needs():
    heavy = {"pydantic", "torch", "numpy", "huggingface_hub", "psutil", "scipy", "jinja2"}
    code = f"import sys, imagecot.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("there", [True, False])
def test_what_goes_on_is_shown_on_a_terminal_only(there, monkeypatch):
    """Bars may stand in others; nothing in a text is a command to the terminal or to rich."""
    screen = io.StringIO()
    monkeypatch.setattr(output, "errors", Console(file=screen, force_terminal=there, width=120, color_system=None))
    watch = output.terminal()
    with watch.waiting("loading [red]x"), watch.progress("drawing [b]") as progress:
        for done in range(4):
            progress(done, 4, "loss [0.5]")
            time.sleep(0.15 * there)  # a bar is drawn ten times a second
        watch.tell("a remark [b]")
        with watch.waiting("a model"):
            time.sleep(0.3 * there)
    shown = screen.getvalue()
    assert shown.count("a remark [b]\n") == 1
    for text in ("loading [red]x", "drawing [b]", "75 %, ", " a second", "loss [0.5]", "a model"):
        assert (text in shown) == there, text
    assert there or shown == "a remark [b]\n"
