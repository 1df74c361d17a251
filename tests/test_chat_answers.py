"""Answers of a chat model as reasons: which are, which are not, and what is kept of them."""

import json
import threading
import time

import pytest
import torch

from imagecot.curation.chat_model import ChatModel
from imagecot.curation.dataset import RankingData, ranking_row, read_rows
from imagecot.curation.reasons import reasons_of
from imagecot.endpoints import KEY, Endpoint
from imagecot.errors import ImagecotError, UsageError
from imagecot.geneval.prompts import colors_metadata, single_object_metadata
from imagecot.replies import Reply
from misbehaving import drips, says, sends, server

torch.set_num_threads(1)
SECRET = "sk-0123456789abcdef"
RED_CUP, APPLE = colors_metadata("cup", "red"), single_object_metadata("apple")


def row(metadata, seed: int, label: bool):
    image = torch.full((3, 8, 8), 0.05 * (seed % 20))
    return ranking_row(
        metadata, "orm", image, step=6, steps=6, seed=seed, label=label, codes=torch.tensor([1, 2, 3, seed])
    )


ROWS = [row(APPLE if k % 2 else RED_CUP, k, k > 7) for k in range(10)]
REJECTED = ROWS[:8]


def outcome(content, **message):
    finish = message.pop("finish", "stop")
    answer = {"choices": [{"message": {"content": content, **message}, "finish_reason": finish}]}
    return reasons_of(Reply.read(answer, Endpoint("http://host/v1")))


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        ("The fourth cup is missing.", "The fourth cup is missing."),
        ("No, there is no apple.", "there is no apple."),
        ("No. The cup is\n green, not red.", "The cup is green, not red."),
        ("<think>Yes, it is all right?</think>There are two cups.", "There are two cups."),
        ("Nothing is wrong with the cup, but the apple is missing.", None),
        ("The image shows a cup, but it is green, not red.", None),
        ("The image does not accurately show the prompt: a cup is extra.", None),
        ("The image shows the prompt's cup, however it is green.", None),
        ("Everything is green instead of red.", None),
        ("There is nothing but a green cup.", None),
        ("The picture shows only three cups.", None),
        ("The cup is in the wrong place.", None),
        ("No apple is there.", "apple is there."),
    ],
)
def test_reasons_are_taken(text, reasons):
    kind, found = outcome(text)
    assert kind == "reasons"
    assert found == (reasons or text) or text.startswith("No apple")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Yes, the image shows an apple.", "agreed"),
        ("yes", "agreed"),
        ("**Yes**", "agreed"),
        ("Nothing is wrong.", "agreed"),
        ("There is nothing wrong with this image.", "agreed"),
        ("The image accurately represents the prompt.", "agreed"),
        ("The image matches the prompt perfectly.", "agreed"),
        ("No discrepancies.", "agreed"),
        ("There are no visible errors in the image.", "agreed"),
        ("Everything is as it should be.", "agreed"),
        ("The image is correct.", "agreed"),
        ("", "empty"),
        (None, "empty"),
        ("No.", "empty"),
        ("no", "empty"),
        ("...", "empty"),
        ("<think>There is no apple.", "empty"),
        ([{"type": "thinking", "thinking": "There is no apple."}], "empty"),
        ([], "empty"),
        ("I'm sorry, but I can't assist with that.", "refused"),
        ("x" * 3000, "cut"),
    ],
)
def test_what_is_no_reason(text, kind):
    assert outcome(text) == (kind, "")


def test_refused_and_cut_answers_are_no_reasons():
    assert outcome("There is no", finish="length") == ("cut", "")
    assert outcome(None, refusal="no") == ("refused", "")
    assert outcome("There", finish="content_filter") == ("refused", "")


@pytest.mark.parametrize("answer", [says(None, refusal="no"), says(""), says("There is", "length"), says("No.")])
def test_what_is_no_answer_is_asked_again(tmp_path, answer):
    with server(answer, says("The cup is green.")) as there:
        chat = ChatModel(there.url, "seer", tmp_path / "answers")
        assert chat.explain(REJECTED[:1]) == [""]
        assert not (tmp_path / "answers").exists()
        assert "1 " in chat.left_out and "of 1 answers" in chat.left_out
        assert chat.explain(REJECTED[:1]) == ["The cup is green."]
        assert chat.explain(REJECTED[:1]) == ["The cup is green."]
        assert chat.asked == len(there.bodies) == 2


def test_the_same_request_is_paid_for_once(tmp_path):
    with server(says("Yes, it does.")) as there:
        chat = ChatModel(there.url, "seer", tmp_path)
        assert chat.explain(REJECTED[:1] * 3) == ["", "", ""]
        assert ChatModel(there.url, "seer", tmp_path).explain(REJECTED[:1]) == [""]
        assert len(there.bodies) == 1
        assert ChatModel(there.url, "other", tmp_path).explain(REJECTED[:1]) == [""]
        assert len(there.bodies) == 2


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"text": 3}', '{"text": "x", "prompt_tokens": "many"}'])
def test_a_damaged_answer_on_disk_is_named(tmp_path, damage):
    with server(says("The cup is green.")) as there:
        ChatModel(there.url, "seer", tmp_path).explain(REJECTED[:1])
        [file] = tmp_path.iterdir()
        file.write_text(damage)
        with pytest.raises(ImagecotError, match=f"{file.name}.*delete it, and it is asked again"):
            ChatModel(there.url, "seer", tmp_path).explain(REJECTED[:1])


@pytest.mark.parametrize("model", ["", " ", "a\nb", "\x1b[31m", "x" * 1000])
def test_a_name_that_is_none_is_refused(tmp_path, model):
    with pytest.raises(UsageError, match="name of the model"):
        ChatModel("http://host/v1", model, tmp_path)


@pytest.fixture
def curate(tmp_path, imagecot, monkeypatch):
    monkeypatch.setenv(KEY, SECRET)
    RankingData(tmp_path / "orm", {}).keep(0, ROWS)

    def call(url: str, *more: str):
        return imagecot("curate", "reflection", "--data", "orm", "--out", "r", "--endpoint", url, "--model", "m", *more)

    return call


def test_parts_become_the_text_of_the_parts(curate, tmp_path):
    with server(says([{"type": "text", "text": "The fourth cup is missing."}])) as there:
        assert curate(there.url)[0] == 0
    assert {r.reasons for r in read_rows(tmp_path / "r") if r.label == "no"} == {"The fourth cup is missing."}


def test_refusals_only_are_one_sentence_and_no_folder(curate, tmp_path):
    with server(says(None, refusal="no")) as there:
        code, out, err = curate(there.url)
    assert (code, out) == (1, "")
    assert "8 refused of 8 answers" in err
    assert not (tmp_path / "r").exists()
    with server(says("There is no cup.")) as there:
        assert curate(there.url)[0] == 0


def test_what_was_left_out_is_told(curate):
    answers = [says(None, refusal="no"), says("There is", "length"), says("Yes."), says(""), says("There is no cup.")]
    with server(*answers) as there:
        code, out, _ = curate(there.url)
    assert code == 0
    assert "1 refused, 1 cut off before their end, 1 saying that nothing is wrong, 1 empty of 8 answers gave no" in out


def test_what_the_server_says_is_told_and_the_key_is_not(curate, tmp_path):
    with server(sends({"error": {"message": f"Use max_completion_tokens, {SECRET}."}}, 400)) as there:
        code, _, err = curate(there.url)
    assert code == 1
    assert "Use max_completion_tokens" in err
    assert SECRET not in err
    assert not (tmp_path / "r").exists()


def test_a_password_is_neither_shown_nor_kept(curate, tmp_path):
    with server(says("There is no cup.")) as there:
        address = there.url.replace("http://", "http://user:hidden-word@")
        code, out, err = curate(address)
        assert code == 0
        assert curate(there.url)[0] == 0  # the answers are there
    kept = "".join(file.read_text("latin-1") for file in (tmp_path / "r").rglob("*") if file.is_file())
    for told in (out, err, kept):
        assert "hidden-word" not in told and SECRET not in told


def test_answers_that_were_paid_for_survive_a_failure(curate, tmp_path):
    refused = threading.Event()

    def refuses(handler):
        while len(there.bodies) < 8:
            time.sleep(0.01)
        sends("no", 400)(handler)
        refused.set()

    def late(handler):
        assert refused.wait(20)
        says("There is no cup.")(handler)

    with server(late, refuses, *[late] * 6, sends("no", 400)) as there:
        code, _, err = curate(there.url)
        assert code == 1 and "the unit 00000 failed 3 times" in err
        kept = list((tmp_path / "r/answers").iterdir())
        assert len(kept) == 7 and json.loads((tmp_path / "r/curation.json").read_text())["kind"] == "reflection"
        there.answers[:] = [says("There is no cup.")]
        code, out, _ = curate(there.url)
        assert (code, "1 requests" in out) == (0, True)
        assert len(there.bodies) == 8 + 2 + 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--endpoint", "host/v1", "--model", "m"), "an endpoint is an address"),
        (("--endpoint", "file:///etc/passwd", "--model", "m"), "an endpoint is an address"),
        (("--endpoint", "http://host/v1"), "go together"),
        (("--model", "m"), "go together"),
        (("--endpoint", "http://host/v1", "--model", ""), "name of the model"),
        (("--endpoint", "", "--model", "m"), "an endpoint is an address"),
    ],
)
def test_requests_that_make_no_sense_claim_no_folder(imagecot, tmp_path, options, told):
    RankingData(tmp_path / "orm", {}).keep(0, ROWS)
    code, _, err = imagecot("curate", "reflection", "--data", "orm", "--out", "r", *options)
    assert code == 2
    assert told in err
    assert not (tmp_path / "r").exists()


def test_a_server_that_drips_does_not_hold_a_run(tmp_path):
    with server(drips(False)) as there:
        chat = ChatModel(there.url, "seer", tmp_path, seconds=0.3)
        with pytest.raises(ImagecotError, match="did not answer within"):
            chat.explain(REJECTED)
