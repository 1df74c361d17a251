"""The page of `imagecot view`: what it is made of, that text stays text, and what is refused."""

import base64
import hashlib
import http.client
import json
import re
import threading
import zipfile

import pytest
from PIL import Image

from imagecot.errors import ImagecotError, UsageError
from imagecot.strategies.previews import MOST_PATHS, PREVIEWS, pack, read
from imagecot.strategies.search import search
from imagecot.strategies.trace import Trace
from imagecot.view import view
from imagecot.view.model import Asked, Path, flags_of
from imagecot.view.serve import Server
from imagecot.view.story import tell
from imagecot.view.write import page, script
from small_models import Brightness, Flat
from viewed import HOSTILE, PARM_WRONG, curation_folder, evaluation_folder, patch, path, run_folder, study_folder


def data(index, name):
    """A file of data as JSON, which its one call holds."""
    text = (index.parent / "data" / f"{name}.js").read_text(encoding="utf-8")
    return json.loads(re.fullmatch(rf'imagecotView\("{name}",(.*)\);\n', text, re.S)[1])


def test_a_run_becomes_a_page_with_every_path(tmp_path):
    run_folder(tmp_path / "run")
    index = view([tmp_path / "run"])
    assert index == tmp_path / "run/view/index.html"
    page_data, (listed,), (told,) = (data(index, name) for name in ("page", "list-0", "told-0"))
    assert [source["kind"] for source in page_data["sources"]] == ["run"]
    assert (listed["prompt"], listed["by"]["0"]["p_yes"]) == (HOSTILE, 0.9)
    found = told["by"]["0"]["search"]
    assert (found["steps"], found["chosen"], len(found["paths"])) == (18, 4, 6)
    stopped, fork, redrawn = (found["paths"][k] for k in (1, 2, 4))
    assert stopped["truncated_at"] == 6 and [one["question"] for one in stopped["asked"]] == ["clarity", "potential"]
    assert set(stopped["pictures"]) == {"1", "4", "6"} and "final" not in stopped
    assert (fork["forks"], fork["forked_at"]) == (0, 8)
    assert found["paths"][0]["said"]["text"] == f"no, {HOSTILE}"
    share, where = redrawn["changed"]
    assert share == pytest.approx(1.0) and (index.parent / where).is_file()
    for one in found["paths"]:
        for name in [*one.get("pictures", {}).values(), *([one["final"]] if "final" in one else [])]:
            with Image.open(index.parent / name) as picture:
                assert picture.size == (16, 16)
    assert found["paths"][0]["asked"][0] == {"step": 6, "question": "clarity", "p_yes": 0.8, "fill": "blank"}


def test_a_real_search_keeps_what_was_judged_and_what_is_shown(tmp_path):
    trace = search("a cup", generator=Flat(steps=9), verifier=Brightness(), n=3, strategy="stepwise",
                   folder=tmp_path / "run")  # fmt: skip
    seen = read(tmp_path / "run").keys()
    judged = {(k, verdict.step) for k, one in enumerate(trace.candidates) for verdict in one.verdicts}
    assert judged and judged <= seen
    trace.picture_cost = type(trace.picture_cost)()
    assert Trace.load(tmp_path / "run").picture_cost.previews == len(seen - judged)


def test_previews_of_very_many_paths_are_bounded():
    candidates = [path(1, 0.5) for _ in range(MOST_PATHS)]
    packed = pack(candidates, range(3), 18)
    assert packed is not None and packed == pack(candidates, range(3), 18)
    assert pack([path(1, None, 6)][:0], [], 18) is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x00" * 100])
def test_damaged_previews_are_said_on_the_page_and_stop_nothing(content, tmp_path):
    run_folder(tmp_path / "run")
    (tmp_path / "run" / PREVIEWS).write_bytes(content)
    problems = data(view([tmp_path / "run"]), "page")["sources"][0]["problems"]
    assert len(problems) == 1 and f"{PREVIEWS} is damaged" in problems[0]


def test_members_with_other_names_are_left_alone(tmp_path):
    run_folder(tmp_path / "run")
    with zipfile.ZipFile(tmp_path / "run" / PREVIEWS, "w") as file:
        file.writestr("../../evil.webp", b"x")
        file.writestr("0-1.webp", b"no picture")
    assert read(tmp_path / "run") == {(0, 1): b"no picture"}
    index = view([tmp_path / "run"])
    assert not (tmp_path / "evil.webp").exists()
    assert "1 pictures of this page could not be read" in data(index, "page")["sources"][0]["problems"][-1]


def test_an_earlier_run_without_previews_is_shown_and_said(tmp_path):
    run_folder(tmp_path / "run")
    (tmp_path / "run" / PREVIEWS).unlink()
    index = view([tmp_path / "run"])
    assert "kept no previews" in data(index, "page")["sources"][0]["problems"][0]
    assert data(index, "list-0")[0]["by"]["0"]["picture"] == "pictures/00000.png"


def test_evaluations_stand_side_by_side_by_prompt(tmp_path):
    for name, share in (("a", 0.2), ("b", 0.9)):
        evaluation_folder(tmp_path / name, 12, share)
    index = view([tmp_path / "a", tmp_path / "b"], tmp_path / "page")
    listed = data(index, "list-0")
    assert len(listed) == 12 and all(set(row["by"]) == {"0", "1"} for row in listed)
    rows = [json.loads(line) for line in (tmp_path / "a/results.jsonl").read_text().splitlines()]
    second = [json.loads(line) for line in (tmp_path / "a/results-second.jsonl").read_text().splitlines()]
    for row, one, other in zip(listed, rows, second, strict=True):
        mark = row["by"]["0"]
        assert row["prompt"] == one["prompt"]
        assert mark["right"] == [[int(one["correct"]), 1], [int(other["correct"]), 1]]
        assert ("d" in mark.get("flags", "")) == (one["correct"] != other["correct"])
    assert data(index, "told-0")[0]["wanted"] == "1 thing 0"


def test_a_study_says_why_parm_is_wrong_where_the_orm_is_right(tmp_path):
    study_folder(tmp_path / "study")
    index = view([tmp_path / "study"])
    page_data, listed, told = (data(index, name) for name in ("page", "list-0", "told-0"))
    assert [method["label"] for method in page_data["methods"]] == ["fine-tuned ORM", "PARM"]
    wrong = [k for k, row in enumerate(listed) if row["by"]["1"]["right"][0] == [0, 1]]
    assert wrong == [PARM_WRONG] and listed[PARM_WRONG]["by"]["0"]["right"][0] == [1, 1]
    assert listed[PARM_WRONG]["by"]["1"]["flags"] == "vs" and listed[4]["by"]["0"]["flags"] == "d"
    assert told[PARM_WRONG]["by"]["1"]["search"]["story"] == [
        "Took path 3 of 3, 1 was stopped on the way. P(yes) 0.60; the best other that ran to the end has 0.20.",
        "It is wrong (expected cup>=3, found 1).",
        "The verifier believes in it all the same.",
        "Path 2 is right, but it was stopped after step 6: potential P(yes) 0.31.",
    ]
    assert [curve["figure"] for curve in page_data["curves"]][:2] == ["baseline", "baseline"]


def test_a_summary_alone_is_shown_with_what_it_lacks(tmp_path):
    study_folder(tmp_path / "study")
    (tmp_path / "study/candidates/baseline.jsonl").unlink()
    problems = data(view([tmp_path / "study"]), "page")["sources"][0]["problems"]
    assert any("Only the summary" in text for text in problems)


def test_a_curation_has_a_method_for_each_question(tmp_path):
    curation_folder(tmp_path / "data")
    index = view([tmp_path / "data"])
    assert [method["key"] for method in data(index, "page")["methods"]] == ["orm", "clarity"]
    image = data(index, "told-0")[0]["by"]["0"]["images"][0]
    assert (image["right"], image["why"]) == ([False], [HOSTILE])


def test_text_in_data_can_end_no_script_and_begin_no_tag(tmp_path):
    run_folder(tmp_path / "run")
    index = view([tmp_path / "run"])
    for file in (index.parent / "data").iterdir():
        assert not set(file.read_text(encoding="utf-8")) & set("<>&\u2028\u2029")
    assert HOSTILE not in index.read_text(encoding="utf-8")
    assert script("page", "</script>") == 'imagecotView("page","\\u003c/script\\u003e");\n'


def test_the_policy_allows_its_own_program_and_no_other_host():
    text = page()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "http" not in policy
    for tag in ("script", "style"):
        inside = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.S)[1]
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "fetch(", "XMLHttpRequest"):
        assert word not in text
    assert re.findall(r"https?://[^\"' ]+", text) == ["http://www.w3.org/2000/svg"]


def test_a_folder_of_folders_stands_for_them_and_the_page_is_replaced(tmp_path):
    for k in range(3):
        run_folder(tmp_path / "runs" / f"run-{k}", "a cup", f"search-{k}")
    out = tmp_path / "page"
    view([tmp_path / "runs"], out)
    index = view([tmp_path / "runs/run-0"], out)
    assert len(data(index, "page")["sources"]) == 1
    assert sorted(file.name for file in out.iterdir()) == [
        "README.md",
        "data",
        "icon.svg",
        "index.html",
        "pictures",
        "view.json",
    ]
    named = {name for name in re.findall(r"pictures/\d+\.\w+", (out / "data/told-0.js").read_text())}
    named |= {name for name in re.findall(r"pictures/\d+\.\w+", (out / "data/list-0.js").read_text())}
    there = {f"pictures/{file.name}" for file in (out / "pictures").iterdir()}
    assert named == there
    assert (out / "README.md").read_text().splitlines()[2] == "sdk: static"


@pytest.mark.parametrize("what", ["missing", "a file", "empty", "other things", "unfinished"])
def test_what_holds_nothing_to_see_is_one_sentence(what, tmp_path, imagecot):
    folder = tmp_path / "there"
    if what == "a file":
        folder.write_text("x")
    elif what != "missing":
        folder.mkdir()
    if what == "other things":
        (folder / "notes.txt").write_text("x")
    if what == "unfinished":
        (folder / "partial").mkdir()
    code, out, err = imagecot("view", "there")
    assert (code, out) == (2, "") and err.startswith("error: there") and err.count("\n") == 1


@pytest.mark.parametrize("line", ["not json", "{}", '{"kind": "run"}'])
def test_a_damaged_folder_is_one_sentence(line, tmp_path, imagecot):
    run_folder(tmp_path / "run")
    text = (tmp_path / "run/trace.jsonl").read_text().splitlines()
    (tmp_path / "run/trace.jsonl").write_text("\n".join([line, *text[1:]]))
    code, _, err = imagecot("view", "run")
    assert code == 1 and "line 1 of run/trace.jsonl" in err and err.count("\n") == 1
    assert not (tmp_path / "run/view/index.html").exists()


def test_another_folder_is_not_written_over(tmp_path):
    run_folder(tmp_path / "run")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("x")
    with pytest.raises(UsageError, match="holds no page"):
        view([tmp_path / "run"], tmp_path / "mine")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with pytest.raises(ImagecotError, match="is a link"):
        view([tmp_path / "run"], tmp_path / "link")


def test_the_command_says_where_the_page_is(tmp_path, imagecot):
    run_folder(tmp_path / "run")
    assert imagecot("view", "run") == (0, "run/view/index.html: open it in a browser\n", "")
    code, out, _ = imagecot("view", "run", "--bundle", "site", "--json")
    assert (code, json.loads(out)) == (0, {"page": "site/index.html"})
    assert imagecot("generate", "--help")[0] == 0


def asked(server, name, host="127.0.0.1", method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request(method, name, headers={"Host": host})
    answer = connection.getresponse()
    found = answer.status, answer.read(), dict(answer.getheaders())
    connection.close()
    return found


def test_the_server_gives_the_files_of_the_page_and_nothing_else(tmp_path):
    run_folder(tmp_path / "run")
    (tmp_path / "secret.txt").write_text("secret")
    index = view([tmp_path / "run"], tmp_path / "page")
    (tmp_path / "page/out.txt").symlink_to(tmp_path / "secret.txt")
    with Server(tmp_path / "page", 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            assert server.server_address[0] == "127.0.0.1"
            status, body, headers = asked(server, "/")
            assert (status, body) == (200, index.read_bytes()) and headers["X-Content-Type-Options"] == "nosniff"
            assert asked(server, "/data/page.js?x=1")[0] == 200
            assert asked(server, "/index.html", method="HEAD")[:2] == (200, b"")
            outside = ("/../secret.txt", "/%2e%2e/secret.txt", "/data/..%2f..%2fsecret.txt", "//etc/passwd", "/out.txt")
            for name in (*outside, "/data", "/data/", "/nothing", "/%00"):
                assert asked(server, name)[0] == 404, name
            assert asked(server, "/", host="evil.example")[0] == 403
            assert asked(server, "/", method="POST")[0] == 501
            with pytest.raises(UsageError, match=f"port {server.server_port} cannot be used"):
                Server(tmp_path / "page", server.server_port)
        finally:
            server.shutdown()
            thread.join()


def test_stories_are_told_of_every_end():
    def drawn(score, right=None, stopped=None, why=""):
        answers = [Asked(stopped, "potential", 0.2)] if stopped else [Asked(18, "orm", score)]
        return Path(answers, score, truncated_at=stopped, right=None if right is None else [right], why=why)

    assert tell([drawn(0.7)], 0) == ["One path was drawn, P(yes) 0.70."]
    assert tell([drawn(0.7, False, why="too few"), drawn(0.6, False)], 0)[1:] == [
        "It is wrong (too few).",
        "The verifier believes in it all the same.",
        "None of the 2 paths is right, so that no choice could have been.",
    ]
    assert tell([drawn(0.7, False), drawn(0.6, True)], 0)[-1] == (
        "Path 2 is right, but its P(yes) 0.60 is lower than 0.70 of the choice."
    )
    assert tell([drawn(0.4, True), drawn(None, True, 6)], 0)[1:] == [
        "It is right.",
        "The verifier does not believe in it although it is right.",
        "2 of 2 paths are right.",
        "Path 2 is right, but it was stopped after step 6: potential P(yes) 0.20.",
    ]
    many = [drawn(0.9, False), *(drawn(0.5, True) for _ in range(6))]
    assert tell(many, 0)[-1] == "So it went for 2 more right paths."


def test_flags():
    assert flags_of([True, False], 0.9) == "d"
    assert flags_of([True, True], 0.2) == "v"
    assert flags_of([False], 0.5, stopped_right=True) == "vs"
    assert flags_of([None, True], None) == ""
    assert flags_of([], 0.9) == ""


def test_pictures_of_one_size_share_a_file(tmp_path):
    from imagecot.view.pictures import Pictures

    pictures = Pictures(tmp_path)
    names = pictures.many([patch(20 * k) for k in range(10)])
    assert names[9] == "pictures/00000.webp#9/8/2"
    with Image.open(tmp_path / "pictures/00000.webp") as sheet:
        assert sheet.size == (8 * 16, 2 * 16)
        for k in range(10):
            shade = sheet.convert("RGB").getpixel((k % 8 * 16 + 8, k // 8 * 16 + 8))[0]
            assert abs(shade - 20 * k) < 12
    assert pictures.data(b"no picture") is None and pictures.left_out == 1
