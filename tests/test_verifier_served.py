"""Judges that a server holds: what is sent, what counts as an answer, and what is told of everything else."""

import concurrent.futures
import math
import threading
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import TypeAdapter

from imagecot import registry
from imagecot.contracts.questions import CLARITY, ORM, POTENTIAL
from imagecot.endpoints import KEY, Endpoint
from imagecot.errors import ImagecotError, UsageError
from imagecot.exchange import MOST_BYTES
from imagecot.verifiers import first_token
from imagecot.verifiers.judge_file import Judge
from imagecot.verifiers.served import ServedVerifier
from misbehaving import closes, drips, floods, says, sends, server
from served import RECORDED, asked_of, judges, scores, without_scores

torch.set_num_threads(1)
SECRET = "sk-0123456789abcdef"
HOST = Endpoint("http://host/v1", SECRET)
GREY = torch.full((1, 3, 8, 8), 0.5)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    monkeypatch.delenv(KEY, raising=False)


def judge(url: str, **said) -> ServedVerifier:
    return ServedVerifier(Judge(address=url, model="seer", **said))


def ask(url: str, **said) -> float:
    return float(judge(url, **said).ask(GREY, ["a cup"], ORM)[0])


def p_yes(*top: tuple[str, float]) -> float:
    told = [{"token": token, "logprob": p} for token, p in top]
    return first_token.p_yes({"choices": [{"logprobs": {"content": [{"top_logprobs": told}]}}]}, HOST)


# --- P(yes)


def test_spellings_are_summed_and_none_twice():
    half, tenth = math.log(0.5), math.log(0.1)
    assert p_yes(("yes", half), ("no", tenth)) == pytest.approx(5 / 6)
    assert p_yes(("yes", half), ("Yes", tenth), ("no", tenth), (" No", tenth)) == pytest.approx(6 / 8)
    assert p_yes(("yes", half), ("yes", tenth), ("no", tenth)) == pytest.approx(5 / 6)
    assert p_yes(("▁yes", half), (" yes", tenth), ("Ġno", tenth)) == pytest.approx(5 / 6)
    assert p_yes(("yes", half), ("YES", tenth), ("yes.", tenth), ("\nyes", tenth), ("no", tenth)) == pytest.approx(
        5 / 6
    )


def test_what_is_improbable_is_precise():
    assert p_yes(("yes", -400.0), ("no", -0.0)) == pytest.approx(math.exp(-400), rel=1e-12)
    assert p_yes(("yes", -700.0), ("no", -705.0)) == pytest.approx(1 / (1 + math.exp(-5)), rel=1e-12)


def test_a_word_beyond_the_most_probable_is_impossible_and_both_are_an_error():
    assert p_yes(("yes", -0.1), ("The", -3.0)) == 1.0
    assert p_yes(("The", -0.1), ("No", -3.0)) == 0.0
    assert p_yes(("yes", -9999.0), ("no", -3.0)) == 0.0
    with pytest.raises(
        ImagecotError, match=r"neither yes nor no is among the 20 .* begin with '<think>', 'The', '\\n'\)"
    ):
        p_yes(("<think>", -0.1), ("The", -3.0), ("\n", -4.0), ("maybe", -5.0))
    with pytest.raises(ImagecotError, match="neither yes nor no"):
        p_yes(("yes", -9999.0), ("no", -9999.0))


def test_the_recorded_answer_of_vllm():
    assert ChatCompletion.model_validate(RECORDED).choices[0].logprobs is not None
    told = RECORDED["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    yes, no = (sum(math.exp(t["logprob"]) for t in told if t["token"].strip() in (w, w.title())) for w in ("yes", "no"))
    assert first_token.p_yes(RECORDED, HOST) == pytest.approx(yes / (yes + no), rel=1e-12)
    with server(sends(RECORDED)) as there:
        verifier = judge(there.url)
        assert float(verifier.ask(GREY, ["a cup"], ORM)) == pytest.approx(yes / (yes + no), rel=1e-6)
    assert (verifier.usage.judge_calls, verifier.usage.tokens_judged) == (1, 414)


# --- what is sent


def test_a_question_is_one_token_about_a_picture(monkeypatch):
    monkeypatch.setenv(KEY, SECRET)
    image = torch.rand(1, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    with server(judges({"yes": 0.6, "no": 0.2})) as there:
        verifier = judge(there.url)
        assert float(verifier.ask(image, ["a cup"], ORM)) == pytest.approx(0.75)
        (body,), (headers,) = there.bodies, there.headers
    sent = {name: body[name] for name in body if name != "messages"}
    assert sent == {
        "model": "seer", "max_completion_tokens": 1, "temperature": 0, "logprobs": True, "top_logprobs": 20,
    }  # fmt: skip
    TypeAdapter(CompletionCreateParamsNonStreaming).validate_python(body)
    question, prompt, seen = asked_of(body)
    assert (question, prompt) == (ORM, "a cup")
    assert torch.equal(seen, (image * 255).round() / 255)
    assert headers["Authorization"] == f"Bearer {SECRET}"
    assert (verifier.usage.judge_calls, verifier.usage.tokens_judged) == (1, 107)
    assert 0 < verifier.usage.seconds < 60
    assert verifier.settings == {"endpoint": there.url, "model": "seer"}


def test_a_follow_up_is_a_dialogue_of_its_own_image():
    with server(judges({"yes": 0.6, "no": 0.2})) as there:
        verifier, images = judge(there.url), torch.stack([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)])
        _, conversation = verifier.begin(images, ["a cup", "a dog"], CLARITY)
        verifier.ask(images[:1], ["?"], POTENTIAL, conversation.select(torch.tensor([1])))
        body = there.bodies[-1]
        verifier.ask(images[1:], ["a dog"], POTENTIAL)
        assert there.bodies[-1] == body
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][1]["content"] == "yes"
    question, prompt, image = asked_of(body)
    assert (question, prompt) == (POTENTIAL, "a dog")
    assert torch.equal(image, images[1:])
    with pytest.raises(UsageError, match="no follow-up"):
        verifier.ask(images, ["a cup"], ORM, conversation)


def test_other_wording_is_asked_and_a_part_of_the_settings():
    with server(judges({"yes": 0.6, "no": 0.2})) as there:
        verifier = judge(there.url, questions={"orm": "Is it {prompt}?", "potential": "Will it be?"})
        verifier.ask(GREY, ["a cup"], ORM)
        verifier.ask(GREY, ["a cup"], POTENTIAL)
    assert there.bodies[0]["messages"][0]["content"][1]["text"] == "Is it a cup?"
    assert there.bodies[1]["messages"][2]["content"] == "Will it be?"
    assert verifier.settings["questions"] == {"orm": "Is it {prompt}?", "potential": "Will it be?"}


def test_equal_requests_are_sent_once_and_counted_each():
    with server(judges({"yes": 0.6, "no": 0.2})) as there:
        verifier = judge(there.url)
        assert verifier.ask(GREY.expand(4, -1, -1, -1), ["a", "b", "a", "a"], ORM).tolist() == pytest.approx([0.75] * 4)
        assert len(there.bodies) == 2
        assert verifier.ask(GREY[:0], [], ORM).tolist() == []
    assert (verifier.usage.judge_calls, verifier.usage.tokens_judged) == (4, 4 * 107)


def test_no_more_requests_run_side_by_side_than_were_allowed():
    running, most, counting = [0], [0], threading.Lock()

    def slowly(handler):
        with counting:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.05)
        with counting:
            running[0] -= 1
        judges({"yes": 0.6, "no": 0.2})(handler)

    with server(slowly) as there:
        judge(there.url, concurrency=3).ask(GREY.expand(9, -1, -1, -1), [f"cup {k}" for k in range(9)], ORM)
        assert most[0] == 3


def test_reflections_are_text_and_the_first_token():
    with server(
        judges({"No": 0.6, "yes": 0.2}, "No, the cup is green.", "stop"),
        judges({"yes": 0.9, "no": 0.1}, "yes", "length"),
    ) as there:
        verifier = judge(there.url)
        (rejected,) = verifier.reflect(GREY, ["a red cup"])
        assert (rejected.reasons, rejected.p_yes, rejected.complete) == ("the cup is green.", pytest.approx(0.25), True)
        (endless,) = verifier.reflect(GREY, ["a red cup"])
        assert (endless.text, endless.complete) == ("yes", False)
        assert there.bodies[0]["max_completion_tokens"] == 96
    assert verifier.usage.judge_calls == 2


def test_any_short_answer_has_a_probability(tmp_path):
    with server(judges({"2": 0.4, "two": 0.2, " Two": 0.1, "tw": 0.05, "t": 0.02, "22": 0.01, "no": 0.1})) as there:
        verifier = judge(there.url, answers=str(tmp_path))
        asked = ["How many cups are there?", "How many cups are there?", "Is it red?", "Is it blue?"]
        spelt = [["2", "two", "Two"], ["three"], ["no"], ["yes", "Yes"]]
        found = verifier.answer_probability(GREY, asked, spelt)
        assert found.tolist() == pytest.approx([0.75, 0.0, 0.1, 0.0])
        assert verifier.answer_probability(GREY.expand(4, -1, -1, -1), asked, spelt).tolist() == found.tolist()
        assert len(there.bodies) == 4
        assert there.bodies[0]["messages"][0]["content"][1]["text"] in asked
        with pytest.raises(UsageError, match="4 and 1"):
            verifier.answer_probability(GREY, asked, spelt[:1])
    assert verifier.usage.judge_calls == 8
    with server(says("two")) as there, pytest.raises(ImagecotError, match="without log-probabilities"):
        judge(there.url).answer_probability(GREY, asked[:1], spelt[:1])


# --- servers that misbehave


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (sends({"error": "no such model"}, 404), r"refuses the request \(404: no such model\); check the address"),
        (sends("", 401), rf"refuses the request \(401\); set {KEY}"),
        (sends("busy", 500), r"refuses the request \(500: busy\); try again later"),
        (sends("later", 429, Retry_After="3600"), r"refuses the request \(429: later\); try again later"),
        (sends({"choices": []}), "did not answer as a chat model"),
        (sends({"answer": "yes"}), "did not answer as a chat model"),
        (sends("yes"), "is not valid JSON"),
        (says("yes"), "answers without log-probabilities; serve the model by"),
        (without_scores(None), "answers without log-probabilities"),
        (without_scores({"content": None}), "answers without log-probabilities"),
        (without_scores({"content": []}), "answers without log-probabilities"),
        (scores([]), "answers without log-probabilities"),
        (without_scores("no"), "sends log-probabilities in another form"),
        (scores({"yes": -0.1}), "sends log-probabilities in another form"),
        (scores([{"token": "yes", "logprob": 0.7}]), r"in another form .*less than or equal to 0\.001"),
        (scores([{"token": "yes"}]), "in another form .*logprob is missing"),
        (judges({"maybe": 0.9}), "neither yes nor no is among the 20"),
        (says(None, refusal="I cannot\n judge."), r"refuses to judge an image \(I cannot judge\.\); ask another"),
        (says("", "content_filter"), r"refuses to judge an image \(content filter\)"),
        (floods, f"more than {MOST_BYTES:,} bytes"),
        (closes, "cannot be reached"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_one_sentence_and_counts_nothing(answer, told):
    with server(answer) as there:
        verifier = judge(there.url)
        with pytest.raises(ImagecotError, match=told) as it:
            verifier.ask(GREY, ["a cup"], ORM)
    assert "\n" not in str(it.value)
    assert verifier.usage.judge_calls == 0


def test_a_server_that_drips_is_left_by_the_deadline():
    with server(drips(False)) as there, pytest.raises(ImagecotError, match=r"did not answer within 0\.5 s"):
        ask(there.url, seconds=0.5)


def test_what_passes_is_tried_again():
    start = time.monotonic()
    with server(
        sends("later", 429, Retry_After="0.3"), sends("no", 503), closes, judges({"yes": 0.6, "no": 0.2})
    ) as there:
        assert ask(there.url) == pytest.approx(0.75)
        assert len(there.bodies) == 4
    assert time.monotonic() - start >= 0.3


def test_the_key_goes_to_no_other_host_and_into_no_message(monkeypatch, tmp_path):
    monkeypatch.setenv(KEY, SECRET)
    with server(judges({"yes": 0.6, "no": 0.2})) as other:
        told = f"redirects to {other.url}/chat/completions, which is not"
        away = sends("", 307, Location=f"{other.url}/chat/completions?key={SECRET}")
        with server(away) as there, pytest.raises(ImagecotError, match=told) as it:
            ask(there.url)
        assert other.headers == []
        assert SECRET not in str(it.value)
    for answer in (
        sends({"error": f"bad key {SECRET}"}, 400),
        says(None, refusal=f"not for {SECRET}"),
        judges({SECRET: 0.9}),
        without_scores(SECRET),
    ):
        with server(answer) as there, pytest.raises(ImagecotError) as it:
            ask(there.url)
        assert SECRET not in str(it.value)
    with server(judges({"no": 0.9, "yes": 0.1}, f"No, {SECRET}.")) as there:
        verifier = judge(there.url, answers=str(tmp_path))
        assert SECRET not in verifier.reflect(GREY, ["a cup"])[0].text
    (file,) = tmp_path.rglob("*.json")
    assert SECRET not in file.read_text() + str(verifier.settings) + repr(verifier.judge) + repr(verifier.endpoint)


def test_a_login_and_a_query_are_sent_and_shown_nowhere():
    with server(judges({"yes": 0.6, "no": 0.2})) as there:
        address = there.url.replace("http://", "http://me:pass-word@") + "?version=2026"
        verifier = judge(address)
        verifier.ask(GREY, ["a cup"], ORM)
        assert there.paths == ["/v1/chat/completions?version=2026"]
        assert there.headers[0]["Authorization"].startswith("Basic ")
        assert verifier.settings == {"endpoint": there.url, "model": "seer"}
    assert "pass-word" not in repr(verifier.judge)


tops = st.lists(
    st.fixed_dictionaries(
        {}, optional={"token": st.sampled_from(["yes", " No", "x", None]), "logprob": st.floats(-20000, 1) | st.none()}
    ),
    max_size=4,
)


@settings(max_examples=200)
@given(tops)
def test_any_probabilities_are_an_answer_or_a_sentence(top):
    try:
        found = first_token.p_yes({"choices": [{"logprobs": {"content": [{"top_logprobs": top}]}}]}, HOST)
        assert 0 <= found <= 1
    except ImagecotError as error:
        assert str(error).startswith("http://host/v1") and str(error).endswith(".")


# --- kept answers


def test_kept_answers_are_not_asked_again(tmp_path):
    with server(judges({"no": 0.6, "yes": 0.2}, "No, it is green.", "stop")) as there:
        first = judge(there.url, answers=str(tmp_path / "answers"))
        before = first.ask(GREY, ["a cup"], ORM), first.reflect(GREY, ["a cup"])
        again = judge(there.url, answers=str(tmp_path / "answers"), concurrency=1, seconds=5.0)
        assert (again.ask(GREY, ["a cup"], ORM), again.reflect(GREY, ["a cup"])) == before
        assert len(there.bodies) == 2
        assert again.usage.tokens_judged == first.usage.tokens_judged == 2 * 107
        for other in (
            judge(there.url, answers=str(tmp_path / "answers"), questions={"orm": "Is it {prompt}?"}),
            ServedVerifier(Judge(address=there.url, model="other", answers=str(tmp_path / "answers"))),
            judge(there.url + "/", answers=str(tmp_path / "answers")),
        ):
            other.ask(GREY, ["a cup"], ORM)
        again.ask(GREY, ["a mug"], ORM)
        again.ask(GREY * 0.9, ["a cup"], ORM)
        assert len(there.bodies) == 7


def test_answers_before_a_failure_are_kept_and_a_damaged_one_is_named(tmp_path):
    with server(judges({"no": 0.6, "yes": 0.2}), sends("no", 400)) as there:
        verifier = judge(there.url, answers=str(tmp_path), concurrency=1)
        with pytest.raises(ImagecotError, match="refuses"):
            verifier.ask(GREY.expand(2, -1, -1, -1), ["a cup", "a dog"], ORM)
        (file,) = tmp_path.rglob("*.json")
        assert float(verifier.ask(GREY, ["a cup"], ORM)) == pytest.approx(0.25)
        file.write_text('{"p": 2}')
        with pytest.raises(ImagecotError, match=rf"{file}: p: .*; delete it, and it is asked again"):
            verifier.ask(GREY, ["a cup"], ORM)


def test_threads_share_a_verifier(tmp_path):
    with server(judges({"yes": 0.6, "no": 0.2})) as there:
        verifier = judge(there.url, answers=str(tmp_path))
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            found = [*pool.map(lambda k: float(verifier.ask(GREY, [f"cup {k % 4}"], ORM)), range(24))]
    assert found == pytest.approx([0.75] * 24)
    assert (verifier.usage.judge_calls, verifier.usage.tokens_judged) == (24, 24 * 107)
    assert len([*tmp_path.rglob("*")]) == len([*tmp_path.rglob("*.json")]) + len([*tmp_path.iterdir()])


# --- names


def written(folder: Path, text: str, name: str = "judge.yaml") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def test_a_file_says_what_an_address_cannot(tmp_path, monkeypatch):
    monkeypatch.setenv(KEY, SECRET)
    with server(judges({"yes": 0.6, "no": 0.2})) as there:
        text = (
            f"address: {there.url}\nmodel: Qwen/Q\nconcurrency: 2\nseconds: 30\nquestions:\n  orm: Is it {{prompt}}?\n"
        )
        name = written(tmp_path, text)
        assert registry.check("verifier", name) == name
        assert there.bodies == []
        verifier = registry.load("verifier", name, device="cpu", dtype="bfloat16")
        assert verifier.usage.judge_calls == 0
        assert [body["model"] for body in there.bodies] == ["Qwen/Q"]
        assert verifier.settings["questions"] == {"orm": "Is it {prompt}?"}
        digests = registry.digests("verifier", name)
        assert registry.digests("verifier", written(tmp_path, text.replace("30", "60"), "b.yml")) == digests
        assert registry.digests("verifier", written(tmp_path, text.replace("Is", "Was"))) != digests
        same = registry.load("verifier", f"{there.url}#Qwen/Q")
        assert same.settings == {"endpoint": there.url, "model": "Qwen/Q"}
        assert registry.digests("verifier", f"{there.url}#Qwen/Q") == {}
        both = registry.load("verifier", f"mean({there.url}#Qwen/Q,{name})")
        assert float(both.ask(GREY, ["a cup"], ORM)) == pytest.approx(0.75)
        spoken = f"atoms[arithmetic]:{name}"
        assert registry.check("verifier", spoken) == spoken
        assert float(registry.load("verifier", spoken).ask(GREY, ["a cup"], ORM)) == pytest.approx(0.75)
    assert SECRET not in str(digests)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("http://localhost:8000/v1", "names a server and no model; give an address with a model"),
        ("https://host/v1#", "names a server and no model"),
        ("https://me:pass-word@host/v1#seer", "an address with a login or a query is no name"),
        ("https://host/v1?key=pass-word#seer", "an address with a login or a query is no name"),
        ("https://host:99999/v1#seer", "an endpoint is an address such as"),
        ("https://#seer", "an endpoint is an address such as"),
        ("nowhere.yaml", r"nowhere\.yaml is missing; give an address with a model"),
        (("[1"), r"judge\.yaml, line 1: .*; correct the YAML"),
        ("- a", r"judge\.yaml holds no judge; it must be a mapping"),
        ("model: seer", r"judge\.yaml: address is missing; correct it"),
        ("address: ['https://me:pass-word@host']\nmodel: seer", r"judge\.yaml: address is no text; correct it"),
        ("address: https://host/v1", "model is missing"),
        ("address: host\nmodel: seer", "an endpoint is an address such as"),
        ("address: https://host/v1\nmodel: ''", "model: .*at least 1 character"),
        ("address: https://host/v1\nmodel: seer\nkey: pass-word", "key is not a known key"),
        ("address: https://host/v1\nmodel: seer\nconcurrency: 0", "concurrency: .*greater than or equal to 1"),
        ("address: https://host/v1\nmodel: seer\nseconds: .inf", "seconds: .*finite"),
        ("address: https://host/v1\nmodel: seer\nquestions: {orm: Is it}", r"template of orm must have \{prompt\}"),
        ("address: https://host/v1\nmodel: seer\nquestions: {rom: 'x'}", "there is no question 'rom'"),
    ],
)
def test_a_name_that_cannot_be_read_is_one_sentence(name, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given_name = name if "://" in name[:8] or name.endswith(".yaml") else "judge.yaml"
    if given_name == "judge.yaml":
        written(tmp_path, name)
    with pytest.raises(UsageError, match=told) as it:
        registry.check("verifier", given_name)
    assert "pass-word" not in str(it.value)


def test_a_judge_that_does_not_answer_fails_when_it_is_loaded():
    with server(sends({"error": "no such model"}, 404)) as there, pytest.raises(ImagecotError, match="no such model"):
        registry.load("verifier", f"{there.url}#seer")
    with pytest.raises(ImagecotError, match="cannot be reached"):
        registry.load("verifier", "http://127.0.0.1:9/v1#seer")


def test_without_the_library_it_is_named(monkeypatch):
    monkeypatch.setattr("imagecot.forms.find_spec", lambda name: None)
    monkeypatch.setattr("imagecot.endpoints.find_spec", lambda name: None)
    for call in (lambda: registry.check("verifier", "http://host/v1#seer"), lambda: Endpoint("http://host/v1")):
        with pytest.raises(
            UsageError, match=r"needs openai, which is not installed; run pip install 'imagecot\[served\]'"
        ):
            call()
