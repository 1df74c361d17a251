"""`self` as a verifier: whose name it becomes, whose weights it has, and everywhere that it can be said."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from imagecot import hub, registry
from imagecot.alignment.dpo import DpoRecipe
from imagecot.alignment.iterate import IterativeRecipe
from imagecot.benchmark.recipe import BenchmarkRecipe
from imagecot.contracts.questions import ORM
from imagecot.errors import UsageError
from imagecot.families import Checkpoint
from imagecot.forms import form_of
from imagecot.generators import load_generator
from imagecot.generators.janus.generator import JanusGenerator
from imagecot.generators.showo import ShowoGenerator
from imagecot.hub import CHECKPOINTS
from imagecot.images import as_saved
from imagecot.judging import beside, judge_named, lent
from imagecot.strategies.defaults import completed
from imagecot.strategies.trace import Trace
from imagecot.study import CorrectionsRecipe, StudyRecipe
from imagecot.study.audit import AuditRecipe
from imagecot.study.models import load_models
from imagecot.study.recipe import SelfCorrection
from imagecot.training.lora import Lora, add_adapter
from imagecot.verifiers import load_verifier
from imagecot.verifiers.janus import JanusVerifier
from imagecot.verifiers.loading import janus_around
from imagecot.verifiers.showo import ShowoVerifier
from small_models import write_janus, write_llamagen, write_showo

torch.set_num_threads(1)
PROMPT = "a photo of a red apple"


@pytest.fixture(scope="module")
def janus(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_janus(tmp_path_factory.mktemp("models") / "janus", side=2, max_position_embeddings=1024))


@pytest.fixture(scope="module")
def show_o(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_showo(tmp_path_factory.mktemp("models") / "show-o"))


@pytest.fixture(scope="module")
def llamagen(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_llamagen(tmp_path_factory.mktemp("models") / "llamagen"))


def pictures(size: int) -> Tensor:
    return as_saved(torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(3)))


def drawing_adapter(base: str, folder: Path) -> str:
    """An adapter on what draws, whose updates are not nothing."""
    generator = load_generator(base)
    assert isinstance(generator, JanusGenerator | ShowoGenerator)
    adapter = add_adapter(generator.model, Lora(r=2, alpha=8), base, generator.adapted_layers)
    torch.manual_seed(1)
    for name, parameter in adapter.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    adapter.save_pretrained(folder)
    return str(folder)


def test_self_becomes_the_name_of_the_generator(janus):
    assert judge_named("self", janus) == janus
    assert judge_named("self", "deepseek-community/Janus-Pro-1B") == "deepseek-community/Janus-Pro-1B"
    assert judge_named("self", "showlab/show-o") == "showlab/show-o"
    assert judge_named("self", "my.module:Drawer") == "my.module:Drawer"
    for other in ("./self", "self/", "selfish", "tiny-parm", "my.module:self", "myself"):
        assert judge_named(other, janus) == other


def test_self_in_a_form(janus):
    assert judge_named("min(self,tiny-orm)", janus) == f"min({janus},tiny-orm)"
    assert judge_named("min(tiny-orm,mean(self,tiny-prm))", janus) == f"min(tiny-orm,mean({janus},tiny-prm))"
    assert judge_named("min(tiny-orm,./self)", janus) == "min(tiny-orm,./self)"
    assert judge_named("atoms[arithmetic]:self", janus) == f"atoms[arithmetic]:{janus}"
    with pytest.raises(UsageError, match="self"):
        registry.check("verifier", "min(self,tiny-orm)")


@pytest.mark.parametrize("name", ["runs/a, b", "runs/a(b", "runs/it's, (old)", "runs/self, b"])
def test_a_part_is_quoted_where_its_name_needs_it(name):
    for form in ("mean(self,tiny-orm)", "mean(atoms:self,tiny-orm)", "min(tiny-prm,mean(self,tiny-orm))"):
        found, inner = judge_named(form, name), []

        def parts(text, inner=inner):
            form = form_of("verifier", text)
            inner += [text] if form is None else []
            for _, part in form.spelling.parts(text) if form else ():
                parts(part)

        parts(found)
        assert name in inner and "tiny-orm" in inner
    with pytest.raises(UsageError, match="both kinds of quotes"):
        judge_named("mean(self,tiny-orm)", 'runs/it\'s "it", b')


def test_a_part_of_a_form_shares_weights(janus):
    named = completed(janus, "best-of-n", "min(self,tiny-orm)", None, {})
    assert named.models["verifier"] == f"min({janus},tiny-orm)"
    made: list[object] = []

    def around(generator: object, checkpoint: Checkpoint) -> object:
        made.append(generator)
        return janus_around(generator, checkpoint)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("imagecot.verifiers.loading.janus_around", around)
        models = named.load()
    assert made == [models.generator]
    assert models.verifier is not None
    together = models.verifier.ask(pictures(16), [PROMPT], ORM)
    each = [registry.load("verifier", name).ask(pictures(16), [PROMPT], ORM) for name in (janus, "tiny-orm")]
    torch.testing.assert_close(together, torch.stack(each).amin(0), check_dtype=False)


def test_where_nobody_draws_there_is_no_self():
    for ask in (
        lambda: registry.check("verifier", "self"),
        lambda: load_verifier("self"),
        lambda: judge_named("self", None),
    ):
        with pytest.raises(UsageError, match=r"self names the generator that draws .* none is named; name a verifier"):
            ask()


def test_generators_that_answer_nothing_cannot_be_self(llamagen):
    with pytest.raises(UsageError, match=r"llamagen cannot judge: LlamaGen draws and answers no questions"):
        completed(llamagen, "best-of-n", "self", None, {})
    with pytest.raises(UsageError, match=r"amused/amused-256 cannot judge: aMUSEd draws"):
        judge_named("self", "amused/amused-256")
    with pytest.raises(UsageError, match="there is no generator 'nobody'"):
        completed("nobody", "best-of-n", "self", None, {})


@pytest.mark.parametrize("precision", [None, "bfloat16"])
@pytest.mark.parametrize(("kind", "size"), [("janus", 16), ("show_o", 16)])
def test_weights_are_shared_and_answer_as_those_that_are_loaded_alone(kind, size, precision, request):
    folder = request.getfixturevalue(kind)
    models = completed(folder, "best-of-n", "self", None, {}).load(precision)
    assert isinstance(models.generator, JanusGenerator | ShowoGenerator)
    assert isinstance(models.verifier, JanusVerifier | ShowoVerifier)
    assert models.verifier.model is models.generator.model
    alone = registry.load("verifier", folder, dtype=precision)
    assert isinstance(alone, JanusVerifier | ShowoVerifier) and alone.model is not models.generator.model
    assert dict(alone.settings) == dict(models.verifier.settings)
    answers = [judge.ask(pictures(size), [PROMPT, "two dogs"], ORM) for judge in (models.verifier, alone)]
    assert torch.equal(*answers)


def test_who_draws_still_draws_the_same(janus, show_o):
    for folder in (janus, show_o):
        drawn = []
        for shared in (False, True):
            generator = load_generator(folder)
            with beside(folder, generator):
                if shared:
                    load_verifier(folder).ask(pictures(16), [PROMPT], ORM)
            paths = generator.start([PROMPT], torch.tensor([1, 2]))
            while not paths.finished:
                paths = generator.advance(paths)
            drawn.append(paths.codes)
        assert torch.equal(*drawn)


def test_what_is_asked_for_otherwise_has_weights_of_its_own(janus, show_o):
    generator = load_generator(janus)
    assert isinstance(generator, JanusGenerator)
    with beside(janus, generator):
        assert lent(f"{janus}/", None, None) is generator
        assert lent(janus, None, "bfloat16") is lent(show_o, None, None) is None
        assert load_verifier(janus, dtype="bfloat16").model is not generator.model
    assert lent(janus, None, None) is None


def test_in_int8_a_janus_has_two_sets_of_weights_and_a_show_o_one(janus, show_o):
    for folder, one in ((janus, False), (show_o, True)):
        models = completed(folder, "best-of-n", "self", None, {}).load("int8")
        assert isinstance(models.generator, JanusGenerator | ShowoGenerator)
        assert isinstance(models.verifier, JanusVerifier | ShowoVerifier)
        assert (models.verifier.model is models.generator.model) is one
        found = models.verifier.ask(pictures(16), [PROMPT], ORM)
        assert torch.equal(found, registry.load("verifier", folder, dtype="int8").ask(pictures(16), [PROMPT], ORM))


@pytest.mark.parametrize("kind", ["janus", "show_o"])
def test_an_adapter_on_who_draws_judges_too(kind, request, tmp_path):
    base = request.getfixturevalue(kind)
    adapted = drawing_adapter(base, tmp_path / "adapted")
    named = completed(adapted, "best-of-n", "self", None, {})
    assert named.models["verifier"] == adapted
    assert {"verifier", "verifier_base"} <= named.digests().keys()
    models = named.load()
    assert isinstance(models.verifier, JanusVerifier | ShowoVerifier)
    assert models.verifier.model is models.generator.model
    answers = [judge.ask(pictures(16), [PROMPT], ORM) for judge in (models.verifier, load_verifier(adapted))]
    assert torch.equal(*answers)
    assert not torch.allclose(answers[0], load_verifier(base).ask(pictures(16), [PROMPT], ORM), atol=1e-3)


def test_self_is_advised_by_a_checkpoint(janus, tmp_path):
    folder = Path(shutil.copytree(janus, tmp_path / "advised"))
    (folder / "search_config.json").write_text(json.dumps({"search": "best-of-n", "verifiers": {"best-of-n": "self"}}))
    assert completed(str(folder), None, None, None, {}).models["verifier"] == str(folder)


@pytest.mark.parametrize("kind", ["janus", "show_o"])
def test_generate(imagecot, kind, request, tmp_path):
    folder = request.getfixturevalue(kind)
    asked = ["generate", PROMPT, "--generator", folder, "--search", "best-of-n", "-n", "3", "--out", "out"]
    code, out, err = imagecot(*asked, "--verifier", "self")
    assert (code, err) == (0, "")
    trace = Trace.load(tmp_path / "out")
    assert (trace.generator, trace.verifier) == (folder, folder)
    assert {"generator", "verifier"} <= trace.weights.keys()
    assert trace.cost.judge_calls == 3
    for same in ("self", folder):
        code, again, _ = imagecot(*asked, "--verifier", same)
        assert (code, again) == (0, out.replace("judge calls:", "judge calls (finished before):"))
    code, _, err = imagecot(*asked, "--verifier", "tiny-orm")
    assert code == 2
    assert "out holds another run" in err


def test_generate_by_who_cannot_judge(imagecot, llamagen, tmp_path):
    for generator in (llamagen, "tiny"):
        asked = ("--generator", generator, "--verifier", "self", "--search", "best-of-n", "--out", "out")
        code, out, err = imagecot("generate", PROMPT, *asked)
        assert (code, out) == (2, "")
        assert "cannot judge" in err and err.count("\n") == 1
        assert not (tmp_path / "out").exists()


def test_evaluate(imagecot, janus, tmp_path):
    asked = ("--generator", janus, "--prompts", "drawn", "--search", "best-of-n", "-n", "2", "--per-task", "1")
    more = ("--samples", "1", "--out", "out")
    code, _, err = imagecot("evaluate", "geneval", *asked, "--verifier", "self", *more)
    assert code == 0, err
    record = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert janus in json.dumps(record) and '"self"' not in json.dumps(record)
    code, _, err = imagecot("evaluate", "geneval", *asked, "--verifier", janus, *more)
    assert code == 0, err


def test_recipes(janus, llamagen, tmp_path):
    study = StudyRecipe(
        output=tmp_path, generators={"a": janus, "b": "tiny"},
        rows={
            "own": {"generator": "a", "search": "best-of-n", "verifier": "self"},
            "both": {"generator": "b", "search": "best-of-n", "verifier": "min(tiny-orm,tiny-prm)"},
        },
    )  # fmt: skip
    assert (study.rows["own"].verifier, study.rows["both"].verifier) == (janus, "min(tiny-orm,tiny-prm)")
    with pytest.raises(ValidationError, match=r"rows\.own\.verifier: .* cannot judge"):
        StudyRecipe(output=tmp_path, generators={"a": llamagen}, rows={"own": study.rows["own"].model_copy(
            update={"verifier": "self"})})  # fmt: skip
    part = SelfCorrection(correcting_generator=janus, orm="self", parm="self", parm_plus_plus="tiny-parm++")
    assert (part.orm, part.parm, part.parm_plus_plus) == (janus, janus, "tiny-parm++")
    assert AuditRecipe(output="x", generator=janus, verifiers=["self", "tiny-orm"]).verifiers == [janus, "tiny-orm"]
    with pytest.raises(ValidationError, match="is there twice"):
        AuditRecipe(output="x", generator=janus, verifiers=["self", janus])
    assert CorrectionsRecipe(output="x", generator=janus, corrector="tiny", verifier="self").verifier == janus


def test_the_judge_of_a_training_is_the_base_as_it_was(janus, llamagen, tmp_path):
    training = {"dpo_weight": 0, "online": {"verifier": "self", "prompts": tmp_path / "prompts.jsonl"}, "steps": 1}
    found = DpoRecipe(output=tmp_path, base=janus, training=training).training.online
    assert found is not None and found.verifier == janus
    rounds = {"output": tmp_path, "base": janus, "prompts": "x", "training": training | {"dpo_weight": 1.0}}
    online = IterativeRecipe(**rounds).training.online
    assert online is not None and online.verifier == janus
    with pytest.raises(ValidationError, match=r"training\.online\.verifier: .* cannot judge"):
        DpoRecipe(output=tmp_path, base=llamagen, training=training)


def test_a_study_shares_weights_too(janus):
    models = load_models(janus, {janus, "tiny-orm"}, None)
    assert isinstance(models.generator, JanusGenerator) and isinstance(models.verifiers[janus], JanusVerifier)
    assert models.verifiers[janus].model is models.generator.model


def test_a_benchmark_names_it(imagecot, tmp_path):
    from imagecot.benchmark.follow import run

    with pytest.raises(UsageError, match="none is named"):
        run(BenchmarkRecipe(config="tiny", verifier="self", output=tmp_path))


def test_a_class_that_draws_and_judges_is_made_once(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "both_roles.py").write_text(
        "from imagecot.checks.toys import ToyGenerator, ToyVerifier\n"
        "class Both(ToyGenerator, ToyVerifier):\n"
        "    made = 0\n"
        "    settings = {}\n"
        "    def __init__(self):\n"
        "        ToyGenerator.__init__(self)\n"
        "        ToyVerifier.__init__(self)\n"
        "        Both.made += 1\n"
    )
    models = completed("both_roles:Both", "best-of-n", "self", None, {}).load()
    assert models.generator is models.verifier
    assert type(models.generator).made == 1


SHIPPED = (CHECKPOINTS / "tiny-janus" / "config.json").is_file()
PAGE = Path(__file__).parent.parent / "docs" / "judges.md"


@pytest.mark.skipif(not SHIPPED, reason="the small Janus is not shipped")
def test_the_page_runs_as_written(imagecot):
    section = PAGE.read_text(encoding="utf-8").partition("## The generator judges itself\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", section, re.S | re.M)
    assert [language for language, _ in blocks] == ["bash", "python"]
    (_, command), (_, program) = blocks
    code, out, err = imagecot(*shlex.split(command)[1:])
    assert (code, err) == (0, "")
    assert "20 judge calls" in out
    names: dict[str, object] = {}
    exec(program, names)
    generator, verifier, trace = names["generator"], names["verifier"], names["trace"]
    assert isinstance(generator, JanusGenerator) and isinstance(verifier, JanusVerifier) and isinstance(trace, Trace)
    assert verifier.model is generator.model and trace.cost.judge_calls == 4


def test_a_show_o_whose_text_is_another_models_is_whole(show_o, tmp_path):
    folder = Path(shutil.copytree(show_o, tmp_path / "hub"))
    texts = tmp_path / "text"
    texts.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.move(folder / name, texts / name)
    assert hub._lacks(folder, hub.VERIFIER) == ""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"llm_model_path": str(texts)}))
    (answer,) = load_verifier(folder).ask(pictures(16)[:1], [PROMPT], ORM)
    assert answer == load_verifier(show_o).ask(pictures(16)[:1], [PROMPT], ORM)[0]
