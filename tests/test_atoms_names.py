"""How judging by atoms is written, where parts come from, and what is said of mistakes."""

import json

import pytest
import torch

from imagecot import registry
from imagecot.contracts.questions import ORM
from imagecot.endpoints import KEY
from imagecot.errors import ImagecotError, UsageError
from imagecot.forms import form_of
from imagecot.geneval.prompts import position_metadata
from imagecot.images import as_saved
from imagecot.verifiers.atoms import Atoms, Mean
from imagecot.verifiers.atoms_form import Named, digests, parts
from imagecot.verifiers.chat_splitting import LONGEST, MOST_PARTS, TEMPLATE, ChatSplitter, usable
from imagecot.verifiers.judge_file import Judge
from imagecot.verifiers.splitting import Splitter
from misbehaving import closes, says, sends, server

torch.set_num_threads(1)

FOX, OWL = "a fox that sleeps in the snow", "an owl that reads"
LISTED = ["a fox", "a fox that sleeps", "snow"]


@pytest.fixture(autouse=True)
def at_home(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(KEY, "sk-0123456789abcdef")
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)


def chat(url: str, model: str = "q") -> ChatSplitter:
    return ChatSplitter(Judge(address=url, model=model))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("atoms:tiny-orm", Named("tiny-orm")),
        ("atoms[geometric]:tiny-orm", Named("tiny-orm", "geometric")),
        ("atoms[arithmetic]:a/b:c", Named("a/b:c", "arithmetic")),
        ("atoms[parts=a=b.jsonl]:tiny-orm", Named("tiny-orm", file="a=b.jsonl")),
        ("atoms[chat=https://a.b/v1#q=w]:min(a,b)", Named("min(a,b)", chat="https://a.b/v1#q=w")),
        ("atoms[chat=http://[::1]:80/v1#q]:x", Named("x", chat="http://[::1]:80/v1#q")),
        ("atoms[chat=judge.yaml]:other.yaml", Named("other.yaml", chat="judge.yaml")),
        (
            "atoms[parts=p][chat=http://h#q][arithmetic]:atoms:x",
            Named("atoms:x", "arithmetic", "p", "http://h#q"),
        ),
    ],
)
def test_texts_are_taken_apart(text, named):
    assert Named.read(text) == named
    form = form_of("verifier", text)
    assert form is not None and form.shown == "atoms:NAME"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("atoms:", "is no verifier that judges by atoms; write atoms:VERIFIER"),
        ("atoms: ", "is no verifier that judges by atoms"),
        ("atoms[arithmetic]", "is no verifier that judges by atoms"),
        ("atoms[arithmetic:tiny-orm", "is no verifier that judges by atoms"),
        ("atoms[arithmetik]:tiny-orm", "arithmetic"),
        ("atoms[]:tiny-orm", "option of atoms"),
        ("atoms[parts]:tiny-orm", "option of atoms"),
        ("atoms[parts=]:tiny-orm", "option of atoms"),
        ("atoms[mean=arithmetic]:tiny-orm", "option of atoms"),
        ("atoms[arithmetic][geometric]:tiny-orm", "says mean twice"),
        ("atoms[parts=missing.jsonl]:tiny-orm", "missing.jsonl is missing"),
        ("atoms[chat=http://host/v1]:tiny-orm", "names a server and no model"),
        ("atoms[chat=http://#q]:tiny-orm", "an endpoint is an address"),
        ("atoms[chat=http://me:secret@host/v1#q]:tiny-orm", "an address with a login or a query is no name"),
        ("atoms[chat=missing.yaml]:tiny-orm", "missing.yaml is missing"),
        ("atoms:tiny-orn", "tiny-orm"),
        ("atoms:min(tiny-orm,tiny-orn)", "tiny-orm"),
    ],
)
def test_mistakes_are_said_before_anything_is_loaded(text, said):
    with pytest.raises(UsageError) as it:
        registry.check("verifier", text)
    assert said in str(it.value) and "secret" not in str(it.value).replace(text, "")
    assert str(it.value).endswith(".")


def test_it_is_loaded_by_its_name_in_other_forms_too(tmp_path):
    file = tmp_path / "parts.jsonl"
    file.write_text(json.dumps({"prompt": FOX, "parts": LISTED, "id": 3}) + "\n", encoding="utf-8")
    judge = registry.load("verifier", f"atoms[arithmetic][parts={file}]:tiny-zero-shot")
    assert isinstance(judge, Atoms) and judge.mean == Mean.arithmetic
    image, texts = (
        as_saved(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))),
        [FOX, "a photo of two cups"],
    )
    found = judge.ask(image.expand(2, -1, -1, -1), texts, ORM).tolist()
    asked = [*LISTED, "a photo of a cup", "a photo of two cups"]
    alone = judge.inner.ask(image.expand(5, -1, -1, -1), asked, ORM).tolist()
    assert found == pytest.approx([sum(alone[:3]) / 3, sum(alone[3:]) / 2], abs=1e-4)
    least = registry.load("verifier", f"min(tiny-zero-shot,atoms[arithmetic][parts={file}]:tiny-zero-shot)")
    whole = judge.inner.ask(image, [FOX], ORM).tolist()
    assert least.ask(image, [FOX], ORM).tolist() == pytest.approx([min(*whole, found[0])], abs=1e-4)


def test_identity_is_that_of_the_inner_verifier_and_of_the_parts(tmp_path):
    inner = registry.digests("verifier", "tiny-orm")
    plain = registry.digests("verifier", "atoms:tiny-orm")
    assert [*plain.values()] == [*inner.values()]
    file = tmp_path / "parts.jsonl"
    found = []
    for listed in (LISTED, LISTED[:2]):
        file.write_text(json.dumps({"prompt": FOX, "parts": listed}), encoding="utf-8")
        found.append(registry.digests("verifier", f"atoms[parts={file}]:tiny-orm"))
    assert found[0].keys() == found[1].keys() == {"verifier_parts", *plain}
    assert found[0]["verifier_parts"] != found[1]["verifier_parts"]
    assert parts(f"atoms[parts={file}]:tiny-orm") == [("verifier", "tiny-orm")]
    assert digests("atoms:tiny-orm") == {}
    assert registry.advice("atoms:tiny-parm") == registry.advice("tiny-parm") != {}
    assert not registry.is_code("verifier", "atoms:tiny-orm")
    assert registry.is_code("verifier", "atoms:some.module:Judge")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "is empty; a line needs a prompt and its parts"),
        (['{"prompt": "a fox"}'], "line 1 of .*there are no parts; a line needs a prompt and its parts"),
        (['{"prompt": "a fox", "include": []}'], "line 1 of .*there are no parts"),
        (['{"prompt": "a fox", "include": [{"class": 3, "count": 1}]}'], "include is no requirement of GenEval"),
        (['{"prompt": "a fox", "include": [{"class": "", "count": 1}]}'], "include is no requirement of GenEval"),
        (
            ['{"prompt": "a fox", "include": [{"class": "fox", "count": 1, "position": ["above", 1]}]}'],
            "include is no requirement of GenEval",
        ),
        (['{"prompt": "a fox", "parts": []}'], "line 1 of .*from 1 to 40 parts, not 0"),
        (['{"prompt": "a fox", "parts": [" "]}'], "line 1 of .*a part is a text of 1 to 500 characters"),
        ([f'{{"prompt": "a fox", "parts": ["{"x" * 501}"]}}'], "1 to 500 characters"),
        (['{"prompt": "a fox", "parts": [3]}'], "line 1 of .*parts.0"),
        (['{"prompt": "", "parts": ["a"]}'], "line 1 of .*prompt"),
        (["{"], "line 1 of .*is not valid JSON"),
        (
            ['{"prompt": "a  Fox", "parts": ["a fox"]}', '{"prompt": "a fox", "parts": ["fox"]}'],
            "line 2 of .*splits a prompt otherwise",
        ),
    ],
)
def test_files_without_parts_are_refused(lines, said, tmp_path):
    file = tmp_path / "parts.jsonl"
    file.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(UsageError, match=said):
        Splitter.read(file)
    with pytest.raises(UsageError, match=said):
        registry.load("verifier", f"atoms[parts={file}]:tiny-orm")


def test_metadata_of_geneval_tell_parts_of_prompts_in_other_words(tmp_path):
    file = tmp_path / "prompts.jsonl"
    metadata = position_metadata("fox", "above", "bench").worded("Look, there sits a fox on a bench!")
    file.write_text(metadata.text + "\n" + json.dumps({"prompt": FOX, "parts": LISTED}), encoding="utf-8")
    assert Splitter.read(file).split([metadata.prompt, FOX]) == [
        ("a photo of a bench", "a photo of a fox", "a photo of a fox above a bench"),
        tuple(LISTED),
    ]


def test_parts_are_cleaned():
    assert usable([" a  fox\n", "a fox", "snow\x1b"]) == ("a fox", "snow\\x1b")
    with pytest.raises(ValueError, match="from 1 to 40"):
        usable([str(k) for k in range(MOST_PARTS + 1)])
    with pytest.raises(UsageError, match="cannot be used: there must be from 1"):
        Splitter({FOX: []})
    assert usable(["x" * LONGEST]) == ("x" * LONGEST,)


def test_a_chat_model_is_asked_once_for_each_prompt_that_cannot_be_read(tmp_path):
    with server(says(f"Here it is:\n```json\n{json.dumps(LISTED)}\n```"), says(json.dumps(["an owl"]))) as there:
        splitter = Splitter({OWL: ["told"]}, chat=chat(there.url))
        assert splitter.split([FOX, "a photo of a cup", OWL, FOX]) == [
            tuple(LISTED),
            ("a photo of a cup",),
            ("told",),
            tuple(LISTED),
        ]
        (body,) = there.bodies
        assert body["model"] == "q" and body["messages"][0]["content"] == TEMPLATE.replace("{prompt}", FOX)
        assert there.headers[0]["Authorization"] == "Bearer sk-0123456789abcdef"
        again = Splitter(chat=chat(there.url))  # from the disk
        assert again.split([FOX]) == [tuple(LISTED)]
        assert len(there.bodies) == 1
        assert Splitter(chat=chat(there.url, "q2")).split([FOX]) == [("an owl",)]
        assert len(there.bodies) == 2
        (one, two) = sorted(
            (tmp_path / "cache" / "imagecot" / "parts").iterdir(), key=lambda file: file.stat().st_mtime
        )
        assert json.loads(one.read_text())["parts"] == LISTED and json.loads(two.read_text())["model"] == "q2"
        one.write_text('{"prompt": "another", "model": "q", "parts": ["a"]}')
        with pytest.raises(ImagecotError, match=r"does not hold the parts of its prompt; delete it, and"):
            again.split([FOX])
        one.unlink()
        assert again.split([FOX]) == [("an owl",)]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (says("I'm sorry, I can't help with that."), "refuses when it is asked to split 'a fox that sleeps"),
        (says('["a fox", "a f', finish="length"), "is cut off while it answers"),
        (says("a fox, and snow"), "answers no list of parts"),
        (says("[]"), "answers no list of parts"),
        (says('["a fox", 3]'), "answers no list of parts"),
        (says("[" * 5000 + "]"), "answers no list of parts"),
        (says('{"parts": "]["}'), "answers no list of parts"),
        (sends({"error": "no such model"}, 404), "refuses the request"),
        (sends({"hello": 1}), "did not answer as a chat model"),
        (closes, "cannot be reached"),
    ],
)
def test_what_is_no_answer_is_said_and_not_kept(answer, said, tmp_path):
    with server(answer) as there:
        splitter = Splitter(chat=chat(there.url))
        with pytest.raises(ImagecotError) as it:
            splitter.split([FOX])
    assert said in str(it.value) and str(it.value).endswith(".")
    assert not (tmp_path / "cache").exists()


def test_settings_tell_who_splits(tmp_path):
    asked = chat("http://host/v1?token=abcdef")
    assert asked.settings["model"] == "q" and asked.settings["address"] == "http://host/v1"
    assert Splitter(chat=asked).settings == {"chat": asked.settings}
    assert "abcdef" not in repr(asked)
    named = tmp_path / "judge.yaml"
    named.write_text("address: http://host/v1?token=abcdef\nmodel: q\n", encoding="utf-8")
    assert Named.read(f"atoms[chat={named}]:tiny-orm").splitter.settings == {"chat": asked.settings}
    (key,) = digests(f"atoms[chat={named}]:tiny-orm")
    assert key == "chat_file"
    assert digests("atoms[chat=http://host/v1#q]:tiny-orm") == {}
    file = tmp_path / "parts.jsonl"
    file.write_text(json.dumps({"prompt": FOX, "parts": LISTED}), encoding="utf-8")
    read = Splitter.read(file)
    assert read.settings == {"told": read.file} and len(read.file) == 64
    assert read.split([FOX]) == Splitter({FOX: LISTED}).split([FOX])
