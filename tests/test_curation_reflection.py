"""Reasons in words for rejected images, by the scorer and by a chat model, and groups for self-correction."""

import base64
import json
import random
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import torch

from imagecot.contracts.detector import Detections
from imagecot.curation.chat_model import ChatModel
from imagecot.curation.corrections import difference, make_corrections, read_corrections, write_corrections
from imagecot.curation.dataset import RankingData, ranking_row, read_rows
from imagecot.curation.llava import export_llava, import_llava
from imagecot.curation.reflection import by_scorer, reflections
from imagecot.endpoints import KEY
from imagecot.errors import ImagecotError, UsageError
from imagecot.geneval.prompts import colors_metadata, single_object_metadata
from imagecot.images import png
from imagecot.reflection.discrepancies import Discrepancy, parse

torch.set_num_threads(1)
RED_CUP, APPLE = colors_metadata("cup", "red"), single_object_metadata("apple")
GREEN_CUP_SEEN = Detections({"cup": [[1, 1, 20, 20, 0.95]]}, {"cup": ["green"]})


class SeesAGreenCup:
    """Finds one green cup in any image."""

    name, classes = "green cup", ("cup", "apple")

    def detect(self, images):
        return [GREEN_CUP_SEEN for _ in images]

    def record(self):
        return {}


def row(metadata, seed: int, label: bool, codes: list[int]):
    image = torch.full((3, 8, 8), 0.1 * (seed % 10))
    return ranking_row(metadata, "orm", image, step=6, steps=6, seed=seed, label=label, codes=torch.tensor(codes))


ROWS = [
    row(RED_CUP, 1, False, [1, 2, 3, 4]),
    row(RED_CUP, 2, True, [9, 9, 9, 4]),
    row(RED_CUP, 3, True, [1, 2, 9, 4]),
    row(APPLE, 4, False, [5, 5, 5, 5]),
    row(APPLE, 5, False, [5, 5, 5, 6]),
    row(APPLE, 6, True, [7, 7, 7, 7]),
    row(RED_CUP, 7, False, [9, 9, 3, 4]),
]


def made():
    return reflections(ROWS, by_scorer(SeesAGreenCup(), 0), 0)


def test_reasons_are_the_scorers_findings_and_one_in_five_is_accepted():
    found = made()
    assert [r.label for r in found] == ["no"] * 4 + ["yes"]
    assert {r.question for r in found} == {"reflection"}
    meant = {r.seed: parse(r.reasons) for r in found}
    assert meant[1] == meant[7] == [Discrepancy("color", "cup", "red", "green")]
    assert meant[4] == meant[5] == [Discrepancy("missing", "apple")]
    assert found[0].answer == f"no, {found[0].reasons}"
    assert found[-1].answer == "yes"
    assert found == made()


def test_rejected_images_without_reasons_are_left_out():
    found = reflections(ROWS, lambda rows: ["", "odd.", "", ""], 0)
    assert [(r.seed, r.reasons) for r in found] == [(4, "odd.")]


def save(folder, rows):
    RankingData(folder, {}).keep(0, rows)
    return folder


def test_rows_keep_their_reasons_on_disk_and_as_conversations(tmp_path):
    save(tmp_path / "d", made())
    back = list(read_rows(tmp_path / "d"))
    assert [r.reasons for r in back] == [r.reasons for r in made()]
    assert back[0].codes == [1, 2, 3, 4]
    RankingData(tmp_path / "d", {}).finish("T", "how")
    assert export_llava(tmp_path / "d", tmp_path / "out") == 5
    records = json.loads((tmp_path / "out/data.json").read_text())
    assert records[0]["conversations"][1]["value"] == back[0].answer
    again = list(import_llava(tmp_path / "out/data.json", tmp_path / "out"))
    assert [(r.question, r.label, r.reasons) for r in again] == [("reflection", r.label, r.reasons) for r in back]


def test_nearest_differs_least_in_its_pixels():
    groups = {g.rejected_seed: g for g in make_corrections(made(), ROWS, "nearest", 0)}
    assert groups.keys() == {1, 4, 5, 7}
    assert (groups[1].accepted_seed, groups[7].accepted_seed) == (2, 3)  # greys: 26 to 51, not 77; 178 to 77
    assert difference(ROWS[0], ROWS[1]) == pytest.approx(25 / 255)
    assert groups[1].difference == pytest.approx(25 / 255)
    other_size = replace(ROWS[1], image=png(torch.zeros(3, 4, 4)))
    with pytest.raises(ImagecotError, match="differ in size"):
        difference(ROWS[0], other_size)
    assert (groups[1].rejected_codes, groups[1].accepted_codes) == ([1, 2, 3, 4], [9, 9, 9, 4])
    assert groups[4].reasons == next(r.reasons for r in made() if r.seed == 4)
    chosen = {
        g.accepted_seed for k in range(20) for g in make_corrections(made(), ROWS, "random", k)
        if g.rejected_seed == 1
    }  # fmt: skip
    assert chosen == {2, 3}
    assert len(make_corrections(made(), ROWS, "nearest", 0, most=2)) == 2


def test_groups_survive_the_disk_and_bad_ones_are_named(tmp_path):
    groups = make_corrections(made(), ROWS, "nearest", 0)
    write_corrections(tmp_path / "c", groups, {"seed": 0})
    back = list(read_corrections(tmp_path / "c"))
    assert [(g.id, g.reasons, g.accepted_codes) for g in back] == [(g.id, g.reasons, g.accepted_codes) for g in groups]
    with pytest.raises(UsageError):
        write_corrections(tmp_path / "c", groups, {"seed": 1})
    write_corrections(tmp_path / "bad", [replace(groups[0], prompt=" ")], {})
    with pytest.raises(ImagecotError, match=r"row 0 of .*: prompt: the prompt is empty"):
        list(read_corrections(tmp_path / "bad"))
    with pytest.raises(UsageError, match="no rejected image"):
        make_corrections([], ROWS, "nearest", 0)
    with pytest.raises(ImagecotError, match="have no codes"):
        make_corrections([replace(r, codes=None) for r in made()], ROWS, "nearest", 0)


@pytest.fixture
def server():
    """A chat model on this machine; `state` holds what it got and the codes with which it answers first."""
    state = {"requests": [], "headers": [], "fail": [], "reply": None}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status = state["fail"].pop() if state["fail"] else 200
            if status == 200:
                state["requests"].append((self.path, body))
                state["headers"].append(self.headers)
            asked = body["messages"][0]["content"][0]["text"]
            text = "No, there is no apple." if "apple" in asked else "The cup is green, not red."
            reply = state["reply"] or {
                "choices": [{"message": {"content": text}}],
                "usage": {"prompt_tokens": 100, "completion_tokens": 7},
            }
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(reply).encode())

        def log_message(self, *arguments):
            pass

    running = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    state["url"] = f"http://127.0.0.1:{running.server_port}/v1"
    yield state
    running.shutdown()
    running.server_close()


def test_a_chat_model_explains_once(server, tmp_path, monkeypatch):
    monkeypatch.setenv(KEY, "secret")
    rejected = [r for r in ROWS if r.label == "no"]
    chat = ChatModel(server["url"], "seer", tmp_path)
    expected = ["The cup is green, not red.", *["there is no apple."] * 2, "The cup is green, not red."]
    assert chat.explain(rejected) == expected
    assert (chat.asked, chat.prompt_tokens, chat.completion_tokens) == (4, 400, 28)
    assert "4 requests, 400 prompt" in chat.cost
    path, body = server["requests"][0]
    assert (path, body["model"]) == ("/v1/chat/completions", "seer")
    sent = {b["messages"][0]["content"][1]["image_url"]["url"].split(",")[1] for _, b in server["requests"]}
    assert sent == {base64.b64encode(r.image).decode() for r in rejected}
    assert server["headers"][0]["Authorization"] == "Bearer secret"
    assert "secret" not in "".join(file.read_text() for file in tmp_path.iterdir())
    again = ChatModel(server["url"], "seer", tmp_path)
    assert again.explain(rejected) == expected
    assert (again.asked, len(server["requests"])) == (0, 4)


def test_passing_failures_are_tried_again_and_others_said(server, tmp_path, monkeypatch):
    monkeypatch.delenv(KEY, raising=False)
    chat = ChatModel(server["url"], "seer", tmp_path)
    server["fail"] = [503, 429]
    assert chat.explain(ROWS[:1]) == ["The cup is green, not red."]
    assert "Authorization" not in server["headers"][0]
    server["fail"] = [401]
    with pytest.raises(ImagecotError, match=rf"refuses the request \(401\); set {KEY}"):
        chat.explain(ROWS[3:4])
    server["reply"] = {"error": "no such model"}
    with pytest.raises(ImagecotError, match="did not answer as a chat model"):
        chat.explain(ROWS[3:4])
    with pytest.raises(ImagecotError, match="cannot be reached"):
        ChatModel("http://127.0.0.1:9", "seer", tmp_path).explain(ROWS[3:4])


def test_the_commands_in_a_row(server, imagecot, tmp_path):
    save(tmp_path / "orm", ROWS)
    curate = ("curate", "reflection", "--data", "orm", "--out", "reflection")
    code, out, _ = imagecot(*curate, "--endpoint", server["url"], "--model", "seer")
    assert (code, out) == (
        0,
        "4 reflection/no, 1 reflection/yes; 4 requests, 400 prompt and 28 answer tokens: reflection\n",
    )
    (tmp_path / "reflection/data/00000.parquet").unlink()  # killed before the unit was written
    _, out, _ = imagecot(*curate, "--endpoint", server["url"], "--model", "seer")
    assert "; 0 requests" in out
    code, out, _ = imagecot("curate", "corrections", "--data", "reflection", "--images", "orm", "--out", "groups")
    assert (code, out) == (0, "4 groups of 2 prompts: groups\n")
    assert (tmp_path / "reflection/samples.png").is_file()
    code, _, err = imagecot(*curate, "--model", "seer")
    assert code == 2
    assert "go together" in err
    code, _, err = imagecot("curate", "corrections", "--data", "reflection", "--images", "orm", "--out", "x",
                            "--pairing", "neerest")  # fmt: skip
    assert code == 2
    assert "did you mean nearest" in err
    assert not (tmp_path / "x").exists()


def test_wordings_differ_between_rows():
    explain = by_scorer(SeesAGreenCup(), random.Random(0).randrange(9))
    assert len(set(explain([row(RED_CUP, k, False, [1]) for k in range(20)]))) > 1
