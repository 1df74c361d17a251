"""Recipes as people break them: one sentence with the line or the key, exit code 2, and never a wait or a file."""

from copy import deepcopy
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagecot.errors import UsageError
from imagecot.kinds import KINDS
from imagecot.recipes import check
from imagecot.yaml_files import parse_yaml, read_yaml

RECIPES = Path(__file__).parent.parent / "recipes/tiny"
DPO = """kind: dpo
output: out
base: tiny
data: pairs
training:
  steps: 2
  seed: 0
  lora: {r: 2, alpha: 4}
"""
REST = "*a{0}, *a{0}, *a{0}, *a{0}, *a{0}, *a{0}, *a{0}, *a{0}, *a{0}, *a{0}"
BOMB = "a0: &a0 [x]\n" + "".join(f"a{k}: &a{k} [{REST.format(k - 1)}]\n" for k in range(1, 12))
NUMBERS = {
    "learning_rate": (".nan", ".inf", "-1", "0", "'0.1'", "true", "null", "[1]", "1e400"),
    "steps": ("0", "-1", "1.5", "true", "'3'", "1e3", "9" * 30, "9" * 5000),
    "batch_size": ("0", "true", "2.0"),
    "held_out": ("-0.1", "1", ".nan"),
    "beta": ("0", "-1", ".inf"),
    "seed": ("9223372036854775808", "-9223372036854775809", "1.0", "true", "x"),
    "lora": ("{r: 0}", "{r: 1000000}", "{alpha: .nan}", "3"),
    "draws": ("0", "100000000"),
    "epochs": ("0", ".inf", ".nan"),
    "warmup_ratio": ("-1", "2"),
    "clip": ("0", "-1", ".nan"),
    "gradient_checkpointing": ("1", "'yes'"),
    "save_every": ("0", "-5"),
}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "line 5: more than 10,000 values"),
        (BOMB.replace("[", "{<<: [").replace("]", "]}").replace("{<<: [x]}", "{x: 1}"), "more than 10,000 values"),
        ("a: &a {b: *a}\n", r"line 1: \*a holds itself"),
        ("a: &a [*a]\n", r"line 1: \*a holds itself"),
        ("a: 1\nb: *c\n", "line 2: found undefined alias 'c'"),
        ("output: x\nseed: 2024-13-45\n", "line 2: '2024-13-45' is no valid timestamp"),
        ("a: !!int abc\n", "line 1: 'abc' is no valid int"),
        ("a: !!bool maybe\n", "line 1: 'maybe' is no valid bool"),
        ("a: !!float x\n", "line 1: 'x' is no valid float"),
        ("a: !!map x\n", "line 1: 'x' is no mapping"),
        ("a: !!python/object/apply:os.system [ls]\n", "line 1: could not determine a constructor"),
        ("a: " + "[" * 5000, "nested deeper than 29 levels"),
        ("".join(f"{' ' * k}a:\n" for k in range(300)), "nested deeper than 29 levels"),
        ("a: " + "1" * 5000, "is no valid int"),
        ("a: 0x" + "f" * 5000, "hundreds of digits"),
        ("".join(f"k{k}: 1\n" for k in range(6000)), "more than 10,000 values"),
        ("a: " + "x" * 1_000_001, "more than 1,000,000"),
        ("a: \0\n", "special characters are not allowed"),
        ("a: 1\n---\nb: 2\n", "expected a single document"),
    ],
)
def test_yaml_that_is_no_recipe_is_one_sentence(text, message, tmp_path):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(UsageError, match=message) as told:
        read_yaml(tmp_path / "r.yaml")
    assert str(told.value).count("\n") == 0 and len(str(told.value)) < 500 + len(str(tmp_path))


def test_numbers_may_be_written_with_an_exponent():
    assert parse_yaml("[1e-4, 1E+3, .5e1, 1.e2, -2e0]", "x") == [1e-4, 1e3, 5.0, 100.0, -2.0]
    assert parse_yaml("['1e-4', 1e, e4]", "x") == ["1e-4", "1e", "e4"]


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in NUMBERS.items() for value in values])
def test_numbers_out_of_bounds_are_refused_by_train_and_validate_alike(key, value, imagecot, tmp_path):
    (tmp_path / "r.yaml").write_text(DPO)
    for command in (["validate"], ["train", "dpo"]):
        code, out, err = imagecot(*command, "r.yaml", f"training.{key}={value}")
        assert (code, out) == (2, "")
        assert key in err and err.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["r.yaml"]


@pytest.mark.parametrize(
    "assignment",
    ["", "=", "=1", ".=1", "training.=1", "training..steps=1", "data.0=1", "base.x=1", "training.steps=[", "x" * 9000,
     "training=3", "output=", "output=''", "output=\ud800", "training.steps=&a [*a]", "training.seed=!!int x"],
)  # fmt: skip
def test_overrides_that_are_none(assignment, imagecot, tmp_path):
    (tmp_path / "r.yaml").write_text(DPO)
    code, out, err = imagecot("validate", "r.yaml", assignment)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert len(err) < 400


def test_a_recipe_of_another_kind_is_said_to_be_one(imagecot):
    study = RECIPES.parent / "study/quick.yaml"
    for said, file, kind, right in (
        (("train", "dpo"), RECIPES / "orm.yaml", "reward-model", "train"),
        (("train", "generator"), RECIPES / "dpo.yaml", "dpo", "train"),
        (("train", "dpo"), study, "study", "study"),
        (("train",), study, "study", "study"),
        (("study",), RECIPES / "dpo.yaml", "dpo", "train"),
    ):
        code, out, err = imagecot(*said, str(file))
        assert (code, out) == (2, "")
        assert err == f"error: {file} is a recipe of the kind {kind}; follow it by: imagecot {right} {file}.\n"


@pytest.mark.parametrize(
    ("text", "change", "message"),
    [
        ("kind: dop\n", [], "there is no kind of recipe 'dop' (did you mean dpo?)"),
        ("kind: 3\n", [], "kind must be the name of a kind of recipe, such as dpo, not 3"),
        ("kind: [dpo]\n", [], "kind must be the name of a kind of recipe, such as dpo, not ['dpo']"),
        ("kind:\n", [], "kind must be the name of a kind of recipe, such as dpo, not None"),
        ("kind: ''\n", [], "there is no kind of recipe ''"),
        ("kind: dpo\nkind: study\n", [], "line 2: the key 'kind' is given twice"),
        ("kind: dpo\n", ["kind=study"], "kind is said twice, 'dpo' and 'study'"),
        ("output: x\n", ["kind=dpo", "kind=study"], "kind is said twice, 'dpo' and 'study'"),
        ("output: x\n", [], "does not say its kind; add the line kind: and one of tokenizer, "),
        ("output: x\n", ["kind=dpo.x"], "there is no kind of recipe 'dpo.x'"),
        ("kind: dpo\n", ["kind.x=1"], "kind.x cannot be set: kind is not a group of keys"),
        ("- kind: dpo\n", [], "must be a mapping of keys to values"),
        ("kind: dpo\n", [], "as a recipe of the kind dpo, has 3 problems: output is missing; base is missing"),
        (DPO.replace("dpo", "iterative-dpo"), [], "has 2 problems: prompts is missing; data is not a known key"),
    ],
)
def test_kinds_that_are_none(text, change, message, imagecot, tmp_path):
    (tmp_path / "r.yaml").write_text(text)
    for command in ("validate", "run"):
        code, out, err = imagecot(command, "r.yaml", *change)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert message in err
    assert [file.name for file in tmp_path.iterdir()] == ["r.yaml"]


@pytest.mark.parametrize(
    ("said", "text", "kind"),
    [
        ("train dpo", "base: tiny\ndata: x\n", "dpo"),
        ("train dpo", "base: tiny\nrounds: 2\n", "iterative-dpo"),
        ("train dpo", "base: tiny\nprompts: x\n", "iterative-dpo"),
        ("train verifier", "vision: {}\n", "verifier"),
        ("train verifier", "base: tiny-orm\n", "reward-model"),
        ("train iterative-dpo", "base: tiny\n", "iterative-dpo"),
        ("study", "rows: {}\n", "study"),
        ("study", "corrector: x\n", "corrections-study"),
    ],
)
def test_what_a_recipe_of_an_earlier_version_is(said, text, kind, imagecot, tmp_path):
    """It is read as the kind that its command and a key say, with all problems of that kind; a remark says the line."""
    (tmp_path / "r.yaml").write_text(f"{text}output: x\nunheard: 1\n")
    code, out, err = imagecot(*said.split(), "r.yaml")
    remark, problems = err.splitlines()
    assert (code, out) == (2, "")
    assert remark == f"r.yaml does not say its kind, as recipes of earlier versions; add the line kind: {kind}"
    assert problems.startswith(f"error: r.yaml, as a recipe of the kind {kind}, has ")
    assert "unheard is not a known key" in problems


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("tokenizer", "model.code_bits=40", "code_bits: input should be less than or equal to 24, not 40"),
        ("tokenizer", "model.encoder_mult=[]", "encoder_mult"),
        ("tokenizer", "model.encoder_mult=[1]", "must be of one length"),
        ("tokenizer", "model.channels=true", "channels: input should be a valid integer, not True"),
        ("tokenizer", "model.code_bits=16", "code_bits must be at most 15"),
        ("tokenizer", "model.image_size=128", "image_size must be 64"),
        ("generator", "model.hidden_size='256'", "hidden_size: input should be a valid integer, not '256'"),
        ("generator", "model.num_attention_heads=7", "must be divisible by num_attention_heads"),
        ("generator", "model.num_hidden_layers=100000", "num_hidden_layers: input should be less than"),
        ("generator", "model.rope_theta=.nan", "rope_theta.float: input should be a finite number"),
        ("generator", "model.codebook_size=9", "the training sets codebook_size itself"),
        ("generator", "model.max_position_embeddings=20", "is below the 115 tokens"),
        ("verifier", "vision.patch_size=7", "patch_size must divide 64"),
        ("verifier", "text.num_attention_heads=5", "twice text.num_attention_heads must divide"),
        ("verifier", "text.num_key_value_heads=2", "num_key_value_heads must divide"),
        ("verifier", "text.hidden_act=swoosh", "no model has these sizes"),
        ("verifier", "vision.image_size=224", "vision.image_size"),
        ("verifier", "text.num_hidden_layers=0", "text.num_hidden_layers"),
    ],
)
def test_sizes_of_models_that_cannot_be_built(name, change, message, imagecot):
    code, _, err = imagecot("validate", str(RECIPES / f"{name}.yaml"), change)
    assert code == 2 and message in err and err.count("\n") == 1


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**25), 10**25) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


def _keys(values, before=""):
    for key, value in values.items():
        yield f"{before}{key}"
        if isinstance(value, dict):
            yield from _keys(value, f"{before}{key}.")


@pytest.mark.parametrize("name", ["dpo-orm", "dpo-iter", "orm", "self-correction", "detector", "tokenizer"])
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_value_of_any_key_is_a_recipe_or_one_sentence(name, data, tmp_path):
    values = read_yaml(RECIPES / f"{name}.yaml")
    *path, last = data.draw(st.sampled_from(list(_keys(values)))).split(".")
    changed = deepcopy(values)
    place = changed
    for key in path:
        place = place[key]
    place[last] = data.draw(VALUES)
    kind = values["kind"]
    try:
        check(changed, KINDS[kind].model(), kind)
    except UsageError as told:
        assert "\n" not in str(told) or "\n" in repr(place[last])


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet="ab:{}[]&*!<>-#'\"\n \t,|?%@0.e\\\u2028\ufeff", max_size=60))
def test_any_text_is_yaml_or_one_sentence(text):
    try:
        parse_yaml(text, "r.yaml")
    except UsageError as told:
        assert str(told).startswith("r.yaml")
