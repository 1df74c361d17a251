"""Ensembles: how they are written, and that their answers are those of their parts."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from imagecot import forms, registry, search
from imagecot.checks import check_verifier
from imagecot.checks.toys import CorrectingToy, ReflectingToy, ToyGenerator, ToyVerifier
from imagecot.commands.output import completion
from imagecot.contracts.asking import Selective
from imagecot.contracts.questions import CLARITY, ORM, POTENTIAL, REFLECTION, Question
from imagecot.contracts.reflection import Reflection, Reflector
from imagecot.contracts.verifier import Conversation, Usage
from imagecot.errors import ImagecotError, UsageError
from imagecot.images import as_saved
from imagecot.strategies.trace import Trace
from imagecot.verifiers import ensemble as written
from imagecot.verifiers.combined import Ensemble, ensemble
from small_models import write_verifier

_SHADES = torch.tensor([0.2, 0.6, 0.8, 1.0])[:, None, None, None]  # from dark to bright
IMAGES = as_saved(_SHADES * torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)).sqrt())
PROMPTS = ["a photo of a cat", "two dogs", "a red apple", "four clocks"]
BOTH = "min(tiny-orm,tiny-zero-shot)"


class Dark(ToyVerifier):
    """Says yes to dark images."""

    def _answers(self, bright: Tensor, about: Tensor, question: Question) -> Tensor:
        return 1 - super()._answers(bright, about, question)


class Speaks(Dark):
    """Also says why."""

    def reflect(self, images: Tensor, prompts: list[str]) -> list[Reflection]:
        answers = self.ask(images, prompts, REFLECTION).tolist()
        return [Reflection(f"no, {prompt}", p) for prompt, p in zip(prompts, answers, strict=True)]


class Finals(ToyVerifier):
    """Answers the ORM question alone."""

    def check_question(self, question: Question) -> None:
        if question != ORM:
            raise UsageError(f"it cannot answer {question.name}")


class Rows:
    """Conversations of somebody's own."""

    def __init__(self, bright: Tensor) -> None:
        self.bright = bright

    def select(self, indices: Tensor) -> "Rows":
        return Rows(self.bright[indices])


class OwnTurns(ToyVerifier):
    """Keeps conversations in a class of its own."""

    def begin(self, images, prompts, question):
        answers, turn = super().begin(images, prompts, question)
        return answers, Rows(turn.own["bright"])

    def ask(self, images, prompts, question, after=None):
        if after is not None:
            return self._answers(after.bright, torch.zeros(len(after.bright)), question)
        return self.begin(images, prompts, question)[0]


class Percent(ToyVerifier):
    def _answers(self, bright: Tensor, about: Tensor, question: Question) -> Tensor:
        return super()._answers(bright, about, question) * 100


# How they are written.


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (BOTH, ["tiny-orm", "tiny-zero-shot"]),
        ("mean( a , b,a )", ["a", "b", "a"]),
        ("min(tiny-orm,mean(a,min(b,c)))", ["tiny-orm", "mean(a,min(b,c))"]),
        ("min(https://host:8000/v1#model,pkg.mod:Class)", ["https://host:8000/v1#model", "pkg.mod:Class"]),
        ("min(atoms:min(a,b),clip:owner/name@21)", ["atoms:min(a,b)", "clip:owner/name@21"]),
        ('min("runs/a, (old",b)', ["runs/a, (old", "b"]),
        ("min('runs/a\"b', \"it's\" )", ['runs/a"b', "it's"]),
        ('mean(min("a,b",c),d)', ['min("a,b",c)', "d"]),
        ("mean(\"min('a)',b)\",d)", ["min('a)',b)", "d"]),
        ("min(runs/a (old, new),b)", ["runs/a (old, new)", "b"]),
        ('min(it"s,b)', ['it"s', "b"]),
    ],
)
def test_parts(text: str, names: list[str]) -> None:
    assert [name for _, name in written.parts(text)] == names


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("min()", "has one part; name at least two"),
        ("mean(tiny-orm)", r"has one part; .* as in mean\(tiny-orm,tiny-zero-shot\)"),
        ("min(a,)", "has an empty part"),
        ("min(a,,b)", "has an empty part"),
        ("min(a,'')", "has an empty part"),
        ("min(a,b", "not closed"),
        ("min(a,b))", "goes on behind its last parenthesis"),
        ("min(a,b) and", "goes on behind its last parenthesis"),
        ("min('a,b)", "a quote that is not closed"),
        ("min('a' c,b)", "has 'c' behind a quoted name"),
        ("min(" * 9 + "a", "more than 8 levels"),
        ("min(tiny-orm,nothing)", r"^min\(tiny-orm,nothing\): there is no verifier 'nothing'"),
        ("mean(tiny-orm,min(tiny-orm,nothing))", "there is no verifier 'nothing'"),
        ("min(tiny-orm,tiny-detector)", "tiny-detector is not a "),
    ],
)
def test_what_cannot_be_read_is_said(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as error:
        registry.load("verifier", registry.check("verifier", text))
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


@pytest.mark.parametrize("role", ["generator", "detector", "search"])
def test_nothing_but_verifiers_is_combined(role: str) -> None:
    with pytest.raises(UsageError, match=f"there is no {role}"):
        registry.check(role, "min(tiny,tiny)")


def test_a_name_that_is_longer_than_a_message_is_cut() -> None:
    with pytest.raises(UsageError) as error:
        registry.check("verifier", f"min({'a' * 4000}")
    assert len(str(error.value)) < 300


def test_digests_are_those_of_the_parts() -> None:
    alone = {name: registry.digests("verifier", name) for name in ("tiny-orm", "tiny-zero-shot")}
    found = registry.digests("verifier", BOTH)
    assert found == {
        f"verifier_part{k}_{key}": digest
        for k, digests in enumerate(alone.values(), 1)
        for key, digest in digests.items()
    }
    assert not registry.is_code("verifier", BOTH)
    assert registry.is_code("verifier", "min(tiny-orm,imagecot.checks.toys:ToyVerifier)")


def test_advice_is_what_all_parts_advise() -> None:
    alone = registry.advice("tiny-parm")
    assert alone["parm"]
    assert registry.advice("min(tiny-parm,mean(tiny-parm,tiny-parm++))") == alone
    assert not {"parm", "parm++"} & registry.advice("min(tiny-parm,tiny-orm)").keys()
    assert forms.agreed([{"a": {"x": 1}, "b": {"y": 1}}, {"a": {"x": 2}, "b": {"y": 1}}]) == {"b": {"y": 1}}


def test_a_part_that_is_named_twice_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def load(role: str, name: str, **how: object) -> ToyVerifier:
        made.append(name)
        return ToyVerifier()

    monkeypatch.setattr(registry, "load", load)
    found = written.load("min(a,mean(a,b),min(b,c))", None, None)
    assert made == ["a", "b", "c"]
    assert len(found.judges) == 3


# What they answer.


@pytest.mark.parametrize(("how", "combined"), [("mean", lambda x: x.mean(0)), ("min", lambda x: x.min(0).values)])
@pytest.mark.parametrize("question", [ORM, CLARITY, POTENTIAL], ids=lambda question: question.name)
def test_answers_are_those_of_the_parts(how: str, combined, question: Question) -> None:
    parts = [ToyVerifier(), Dark(), Speaks()]
    alone = torch.stack([part.ask(IMAGES, PROMPTS, question) for part in parts]).double()
    assert alone.std(0).max() > 0.1
    torch.testing.assert_close(ensemble(how, parts).ask(IMAGES, PROMPTS, question), combined(alone))


def test_a_part_that_stands_there_twice_counts_twice_and_is_asked_once() -> None:
    one, other = ToyVerifier(), Dark()
    a, b = (part.ask(IMAGES, PROMPTS, ORM).double() for part in (one, other))
    found = ensemble("mean", [one, other, one])
    before = found.usage
    torch.testing.assert_close(found.ask(IMAGES, PROMPTS, ORM), (2 * a + b) / 3)
    assert found.usage - before == Usage(judge_calls=8, tokens_judged=56)


@pytest.mark.parametrize("parts", [[ToyVerifier, Dark], [ToyVerifier, OwnTurns]], ids=["ours", "another class"])
def test_conversations_of_the_parts_are_selected_together(parts: list[type]) -> None:
    found = ensemble("mean", [part() for part in parts])
    answers, turn = found.begin(IMAGES, ["a cat"], CLARITY)
    torch.testing.assert_close(answers, found.ask(IMAGES, ["a cat"], CLARITY))
    whole = found.ask(IMAGES, ["a cat"], POTENTIAL, turn)
    for rows in (torch.tensor([2, 0]), torch.tensor([False, True, True, False])):
        some = found.ask(IMAGES[rows], ["a cat"], POTENTIAL, turn.select(rows))
        torch.testing.assert_close(some, whole[rows])
    nested = ensemble("min", [found, Dark()])
    turn = nested.begin(IMAGES, ["a cat"], CLARITY)[1].select(torch.tensor([3, 1]))
    expected = torch.minimum(whole, Dark().ask(IMAGES, ["a cat"], POTENTIAL).double())[[3, 1]]
    torch.testing.assert_close(nested.ask(IMAGES[[3, 1]], ["a cat"], POTENTIAL, turn), expected)


def test_conversations_of_others_are_refused() -> None:
    found = ensemble("min", [ToyVerifier(), Dark()])
    turn = found.begin(IMAGES, PROMPTS, CLARITY)[1]
    with pytest.raises(UsageError, match="another verifier's"):
        found.ask(IMAGES, PROMPTS, POTENTIAL, Conversation(CLARITY, {"bright": torch.zeros(4)}))
    with pytest.raises(UsageError, match="another ensemble's"):
        ensemble("min", [ToyVerifier(), Dark(), Speaks()]).ask(IMAGES, PROMPTS, POTENTIAL, turn)
    with pytest.raises(UsageError, match="no follow-up"):
        found.ask(IMAGES, PROMPTS, ORM, turn)


def test_a_part_that_gives_no_probability_is_named() -> None:
    with pytest.raises(ImagecotError, match=r"Percent\.ask is not a probability"):
        ensemble("mean", [ToyVerifier(), Percent()]).ask(IMAGES, PROMPTS, ORM)


@pytest.mark.parametrize(("how", "count"), [("max", 2), ("mean", 1)])
def test_what_is_no_ensemble(how: str, count: int) -> None:
    with pytest.raises(UsageError, match="mean or min of at least two verifiers"):
        ensemble(how, [ToyVerifier()] * count)


def test_only_an_ensemble_with_a_part_that_reflects_does() -> None:
    assert not isinstance(ensemble("mean", [ToyVerifier(), Dark()]), Reflector)
    found = ensemble("mean", [ToyVerifier(), ReflectingToy(), Speaks()])
    assert isinstance(found, Reflector)
    said = found.reflect(IMAGES, PROMPTS)
    words = ReflectingToy().reflect(IMAGES, PROMPTS)
    assert [one.text for one in said] == [one.text for one in words]
    parts = [
        ToyVerifier().ask(IMAGES, PROMPTS, ORM),
        ReflectingToy().ask(IMAGES, PROMPTS, REFLECTION),
        Speaks().ask(IMAGES, PROMPTS, REFLECTION),
    ]
    assert [one.p_yes for one in said] == pytest.approx(torch.stack(parts).double().mean(0).tolist(), abs=1e-6)


def test_a_question_that_a_part_cannot_answer_is_refused_before_anything_is_drawn() -> None:
    found = ensemble("mean", [ToyVerifier(), ensemble("min", [Dark(), Finals()])])
    assert isinstance(found, Selective)
    generator = ToyGenerator()
    with pytest.raises(UsageError, match="it cannot answer clarity"):
        search("a photo of a cat", generator=generator, verifier=found, strategy="parm", n=2)
    assert generator.rows == 0
    trace = search("a photo of a cat", generator=generator, verifier=found, strategy="best-of-n", n=2)
    assert trace.cost.judge_calls == 6


@pytest.mark.parametrize("how", ["mean", "min"])
def test_ensembles_keep_the_contract(how: str) -> None:
    nested = ensemble("min", [ToyVerifier(), Finals()])
    for parts in (
        [ToyVerifier(), Dark(), ToyVerifier()],
        [ReflectingToy(), Speaks(), ToyVerifier()],
        [ToyVerifier(), nested],
    ):
        assert [one for one in check_verifier(ensemble(how, parts)) if one.state != "kept"] == []


def test_a_shipped_ensemble_keeps_the_contract() -> None:
    found = registry.load("verifier", "mean(tiny-parm,tiny-zero-shot)")
    assert [one for one in check_verifier(found) if one.state != "kept"] == []


def test_searches_with_an_ensemble_find_what_the_least_of_its_parts_says() -> None:
    parts = [ReflectingToy(), Speaks()]
    how = {"generator": CorrectingToy(), "n": 4, "verifier": ensemble("min", parts)}
    trace = search("a photo of a cat", strategy="parm", **how)
    finished = [one for one in trace.candidates if one.score is not None]
    assert trace.candidates[trace.chosen].score == max(one.score for one in finished)
    assert search("a photo of a cat", strategy="parm++", **how).cost.judge_calls > trace.cost.judge_calls


def test_settings_name_the_combination_and_the_parts() -> None:
    found = Ensemble("min", [ToyVerifier(), Dark()])
    assert found.settings == {"combined": "min", "parts": [{}, {}]}


# On the command line.


def test_generate_with_shipped_ensembles(imagecot, tmp_path: Path) -> None:
    for verifier, how in ((BOTH, "best-of-n"), ("mean(tiny-parm,tiny-parm++)", "parm")):
        command = ["generate", "a photo of a red apple", "--search", how, "--verifier", verifier, "-n", "2"]
        for again in ("", " (finished before)"):  # the second time it is read back
            code, out, err = imagecot(*command, "--out", how)
            assert (code, err) == (0, "")
            assert f"judge calls{again}" in out
    trace = Trace.load(tmp_path / "parm")
    assert trace.verifier == "mean(tiny-parm,tiny-parm++)"
    assert trace.settings["first_step"] == 6
    assert trace.model_settings["verifier"]["combined"] == "mean"


def test_other_weights_of_a_part_are_another_run(imagecot, tmp_path: Path) -> None:
    write_verifier(tmp_path / "judge, old")
    command = ["generate", "a photo of a red apple", "--search", "best-of-n", "-n", "2", "--out", "out"]
    command += ["--verifier", 'min("judge, old",tiny-orm)']
    assert imagecot(*command)[0] == 0
    weights = load_file(tmp_path / "judge, old" / "model.safetensors")
    save_file({name: tensor * 1.1 for name, tensor in weights.items()}, tmp_path / "judge, old" / "model.safetensors")
    code, _, err = imagecot(*command)
    assert code == 2
    assert "out holds another run (weights " in err


def test_recipes_name_ensembles(imagecot, tmp_path: Path) -> None:
    text = (Path(__file__).parent.parent / "recipes" / "study" / "ensembles.yaml").read_text()
    (tmp_path / "study.yaml").write_text(text)
    assert imagecot("validate", "study.yaml")[:2] == (0, "study.yaml is a valid study recipe\n")
    (tmp_path / "study.yaml").write_text(text.replace("min(tiny-orm,tiny-zero-shot)", "min(tiny-orm,tiny-zero-shoe)"))
    code, out, err = imagecot("study", "study.yaml")
    assert (code, out) == (2, "")
    assert "there is no verifier 'tiny-zero-shoe' (did you mean tiny-zero-shot?)" in err


def test_forms_are_shown_where_verifiers_are_named(imagecot) -> None:
    listed = imagecot("models")[1]
    assert "mean(NAME,NAME,...)" in listed
    assert "clip:MODEL" in listed
    for command in (["generate"], ["evaluate", "geneval"]):
        assert "min(NAME,NAME,...)" in re.sub(r"[│\s]+", " ", imagecot(*command, "--help")[1])
    names = completion("verifier")()
    assert {"tiny-orm", "mean(", "min(", "clip:"} <= {*names}
