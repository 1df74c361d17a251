"""What is pushed comes back the same: models, data and results, against a hub on this machine."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

import imagecot
from hub_standin import TOKEN, Fault, Hub, standin
from imagecot import registry
from imagecot.contracts import ORM
from imagecot.contracts.paths import finish
from imagecot.errors import ImagecotError, UsageError
from imagecot.hub import CHECKPOINTS, hub_id
from imagecot.publishing import clean, pull_from_hub, push_to_hub

# The library sends files in a way that its client will give up.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
DETECTOR = "tiny-detector"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    from huggingface_hub import constants

    with standin() as running:
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        for name, value in {
            "ENDPOINT": running.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": template,
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
        }.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
        monkeypatch.chdir(tmp_path)
        yield running


def codes(name: str) -> torch.Tensor:
    generator = imagecot.load_generator(name)
    with torch.no_grad():
        return finish(generator, generator.start(["a photo of a red apple"], torch.tensor([3, 4]))).codes


def test_a_generator_comes_back_with_its_part_inside(hub: Hub, quick_tiny: Path) -> None:
    found = push_to_hub(str(quick_tiny), "me/quick")
    assert found.kind == "generator and verifier" or found.kind.startswith("generator")
    assert {"model.safetensors", "config.json", "README.md", "tiny-magvitv2/model.safetensors"} <= {*found.files}
    assert registry.digests("generator", "me/quick") == registry.digests("generator", str(quick_tiny)) == found.digests
    assert torch.equal(codes("me/quick"), codes(str(quick_tiny)))
    # The copy in the cache can be pushed on, as a part of another repository, and is still the same.
    push_to_hub("me/quick", "me/many:of/them")
    assert registry.digests("generator", "me/many:of/them") == found.digests
    assert registry.digests("generator", f"me/quick@{found.commit}") == found.digests


def test_adapters_name_a_base_that_others_can_have(hub: Hub) -> None:
    with pytest.raises(UsageError, match=r"tiny-prm is an adapter of 'tiny-zero-shot', .* with --base OWNER/NAME\."):
        push_to_hub("tiny-prm", "me/prm")
    push_to_hub(DETECTOR, "me/other")
    with pytest.raises(UsageError, match=r"--base me/other: model\.safetensors there is not the 'tiny-zero-shot'"):
        push_to_hub("tiny-prm", "me/prm", base="me/other")
    with pytest.raises(ImagecotError, match=r"nothing of it is published \(404: there is none of that name"):
        push_to_hub("tiny-prm", "me/prm", base="me/none")
    assert hub.files("me/prm") == {}
    push_to_hub("tiny-zero-shot", "me/base")
    found = push_to_hub("tiny-prm", "me/prm", base="me/base")
    assert json.loads(hub.files("me/prm")["adapter_config.json"])["base_model_name_or_path"] == "me/base"
    assert registry.digests("verifier", "me/prm") == registry.digests("verifier", "tiny-prm") == found.digests
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    answers = []
    for name in ("me/prm", "tiny-prm"):
        verifier = imagecot.load_verifier(name)
        with torch.no_grad():
            answers.append(verifier.ask(image, ["a photo of a cup"], ORM))
    assert torch.equal(*answers)
    head = yaml.safe_load(hub.files("me/prm")["README.md"].decode().split("---\n")[1])
    assert head["base_model"] == "me/base" and head["license"] == "apache-2.0" and head["library_name"] == "peft"


def test_the_token_goes_nowhere_else_and_a_new_push_leaves_nothing_old(hub: Hub, tmp_path: Path) -> None:
    folder = shutil.copytree(CHECKPOINTS / DETECTOR, tmp_path / "mine")
    (folder / "state.pt").write_bytes(b"pickle")
    (folder / ".hidden.json").write_text("{}")
    push_to_hub(folder, "me/detector")
    assert {*hub.files("me/detector")} == {"model.safetensors", "config.json", "README.md"}
    assert registry.digests("detector", "me/detector") == registry.digests("detector", str(folder))
    asked = [headers for _, url, headers in hub.asked if url.startswith(hub.store)]
    assert asked and not any("Authorization" in headers for headers in asked)
    assert hub.files("me/detector")["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    there = hub.repositories["model", "me/detector"]
    commits = len(there.commits)
    (folder / "chat_template.jinja").write_text("x")
    push_to_hub(folder, "me/detector")
    (folder / "chat_template.jinja").unlink()
    push_to_hub(folder, "me/detector")
    assert "chat_template.jinja" not in hub.files("me/detector") and len(there.commits) == commits + 2


FAULTS = [
    (Fault("POST", "/repos/create", 401), "401: the token is not known there"),
    (Fault("POST", "/repos/create", 403), "403: the token may not do that"),
    (Fault("POST", "/repos/create", 429, headers={"Retry-After": "7"}), "429: .* try again in 7 seconds"),
    (Fault("POST", "/preupload/", 500, times=99), "500: it has failed"),
    (Fault("POST", "/objects/batch", 404), "404: there is none"),
    (Fault("PUT", "/lfs-store/", "drop", times=99), "the connection failed or broke off"),
    (Fault("PUT", "/lfs-store/", 500, times=99), "500: it has failed"),
    (Fault("PUT", "/lfs-store/", "corrupt"), "422: it refuses that"),
    (Fault("POST", "/commit/", 403), "403: the token may not do that"),
    (Fault("POST", "/commit/", 412), "412: somebody else has changed it"),
    (Fault("POST", "/commit/", 500), "500: it has failed"),
    (Fault("POST", "/commit/", "drop"), "the connection failed or broke off"),
]


@pytest.mark.parametrize(("fault", "said"), FAULTS, ids=lambda one: f"{one.path}{one.what}" if one is Fault else None)
def test_a_push_that_fails_publishes_nothing(hub: Hub, fault: Fault, said: str) -> None:
    hub.faults.append(Fault(fault.method, fault.path, fault.what, fault.times, fault.headers))
    with pytest.raises(ImagecotError, match=said) as failed:
        push_to_hub(DETECTOR, "me/detector")
    assert "nothing of it is published" in str(failed.value) and "\n" not in str(failed.value)
    assert hub.files("me/detector") == {}
    hub.faults.clear()
    push_to_hub(DETECTOR, "me/detector")
    assert "model.safetensors" in hub.files("me/detector")


def test_a_hub_without_the_newer_storage_is_told(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    with pytest.raises(ImagecotError, match=r"nothing of it is published \(its Xet storage failed; .*DISABLE_XET=1"):
        push_to_hub(DETECTOR, "me/detector")
    assert hub.files("me/detector") == {}


def test_what_is_transient_is_tried_again_and_a_lost_answer_is_looked_up(hub: Hub) -> None:
    hub.faults += [
        Fault("POST", "/preupload/", 429, headers={"Retry-After": "1"}),
        Fault("PUT", "/lfs-store/", "drop"),
        Fault("POST", "/commit/", "corrupt"),
    ]
    found = push_to_hub(DETECTOR, "me/detector")
    assert [*hub.repositories["model", "me/detector"].commits][-1] == found.commit
    assert not any(fault.times for fault in hub.faults)


def test_bytes_that_differ_are_found_on_both_ways(hub: Hub) -> None:
    hub.faults.append(Fault("POST", "/paths-info/", "corrupt"))
    with pytest.raises(ImagecotError, match=r"README\.md is not on the hub as it was sent to me/detector; push again"):
        push_to_hub(DETECTOR, "me/detector")
    hub.faults.append(Fault("GET", "/lfs-store/", "corrupt"))
    with pytest.raises(ImagecotError, match=r"me/detector .* \(model\.safetensors came with other bytes"):
        registry.folder_of("detector", "me/detector")
    assert registry.digests("detector", "me/detector") == registry.digests("detector", DETECTOR)


def test_who_may_see_it(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    push_to_hub(DETECTOR, "me/secret", private=True)
    push_to_hub(DETECTOR, "me/open")
    assert hub.repositories["model", "me/secret"].private and not hub.repositories["model", "me/open"].private
    with pytest.raises(UsageError, match="me/open is there and public; make it private on its page first"):
        push_to_hub(DETECTOR, "me/open", private=True)
    with pytest.raises(ImagecotError, match="403: the token may not do that"):
        push_to_hub(DETECTOR, "others/model")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "none")
    with pytest.raises(UsageError, match="nobody is logged in to the hub; run hf auth login"):
        push_to_hub(DETECTOR, "me/open")
    with pytest.raises(ImagecotError, match=r"me/secret .* cannot be downloaded \(404: there is none of that name"):
        registry.folder_of("detector", "me/secret")
    assert registry.folder_of("detector", "me/open").is_dir()
    with pytest.raises(ImagecotError, match=r"me/open@v2 .*\(there is no such revision of it\)"):
        registry.folder_of("detector", "me/open@v2")
    before = len(hub.asked)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="HF_HUB_OFFLINE is set, and nothing can be pushed"):
        push_to_hub(DETECTOR, "me/open")
    assert len(hub.asked) == before


def test_what_cannot_be_pushed(hub: Hub, tmp_path: Path) -> None:
    folder = shutil.copytree(CHECKPOINTS / DETECTOR, tmp_path / "mine")
    (tmp_path / "empty").mkdir()

    def refused(what: str | Path, said: str, repository: str = "me/x", **options: str) -> None:
        with pytest.raises(ImagecotError, match=said):
            push_to_hub(what, repository, **options)  # type: ignore[arg-type]

    refused("nothing", "there is no 'nothing'; give a shipped name")
    refused(tmp_path / "empty", "holds no checkpoint, curated data, evaluation or study")
    for name in ("", "x", "a/b/c", "me/x@v1", "me/x--y", "/x", "me/x.git"):
        refused(DETECTOR, "names no repository; give owner/name", name)
    refused(DETECTOR, "is no adapter, so that it has no base", base="me/tiny")
    refused(DETECTOR, "--benchmark OWNER/NAME is for --results", benchmark="me/prompts")
    refused(DETECTOR, r"empty has no summary\.json", results=str(tmp_path / "empty"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "made_in": "/home/somebody/models"}))
    refused(folder, r"config\.json names '/home/somebody/models', which only this machine has")
    (folder / "config.json").write_text(json.dumps({**config, "key": TOKEN}))
    refused(folder, r"line 1 of config\.json holds what looks like a secret token")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "README.md").write_text("---\nlicense: [\n---\nx")
    refused(folder, r"README\.md: its head is no metadata of a card")
    (folder / "README.md").unlink()
    (folder / "training.json").write_text("{}\n")
    refused(folder, "is a training that has not ended")
    (folder / "training.json").unlink()
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    refused(folder, r"model\.safetensors is truncated or corrupt")
    weights.rename(folder / "pytorch_model.bin")
    refused(folder, r"pytorch_model\.bin is no safetensors file, and loading it may run code")
    assert not any(url.endswith("/commit/main") for _, url, _ in hub.asked)


def test_texts_lose_what_is_about_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text, left in {
        f'{{"out": "{tmp_path}/runs/a"}}': '{"out": "runs/a"}',
        "see /home/me/a/b.png.": "see b.png.",
        "file:///root/x/y": "y",
        r'{"p": "C:\\Users\\me\\x"}': '{"p": "x"}',
        "https://hub/home/me and a/root/b, and/or 1/2 <a/b> ~/x /nowhere/at/all": None,
        "data:image/jpeg;base64,/9j/4AAQ/tmp": None,
    }.items():
        assert clean.without_paths(text) == (text if left is None else left)
    monkeypatch.setenv("OTHER_API_KEY", "geheimgeheimgeheim")
    for secret in (TOKEN, "sk-" + "a" * 30, "geheimgeheimgeheim"):
        with pytest.raises(UsageError, match=r"line 2 of a\.json holds what looks like a secret"):
            clean.check_secrets("a.json", f"x\n{secret}\n")
    clean.check_secrets("a.json", "a task-force of hf_hub users")


def test_hub_ids() -> None:
    said = {name: hub_id(name) for name in ("a/b", "a/b:c/d", "a/b@v1", "a/b@refs/pr/1:c")}
    assert [(one.repository, one.revision, one.folder) for one in said.values() if one] == [
        ("a/b", "main", ""), ("a/b", "main", "c/d"), ("a/b", "v1", ""), ("a/b", "refs/pr/1", "c"),
    ]  # fmt: skip
    assert [str(one) for one in said.values()] == [*said]
    assert not any(hub_id(name) for name in ("a/b@", "a/b@../x", "a/b@:c", "a/b:/c", "a@b/c", "a/b@c@d"))


def test_the_command(hub: Hub, imagecot: object) -> None:
    code, out, err = imagecot("push", DETECTOR, "me/detector", "--json")  # type: ignore[operator]
    found = json.loads(out)
    assert code == 0 and found["name"] == "me/detector" and found["url"] == f"{hub.url}/me/detector"
    assert found["digests"] == registry.digests("detector", DETECTOR)
    code, out, err = imagecot("push", DETECTOR, "nothing")  # type: ignore[operator]
    assert (code, out) == (
        2,
        "",
    ) and err == "error: 'nothing' names no repository; give owner/name, or owner/name:folder.\n"
    hub.faults.append(Fault("POST", "/commit/", 500))
    code, out, err = imagecot("push", "tiny-detector-2", "me/detector")  # type: ignore[operator]
    assert (code, out) == (1, "") and "nothing of it is published (500: it has failed; try again later)." in err
    code, out, err = imagecot("push", DETECTOR, "me/again")  # type: ignore[operator]
    assert code == 0 and out == f"{hub.url}/me/again holds me/again: detector, 3 files\n"


def test_a_copy_needs_a_name_and_an_empty_folder(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("x")
    for name, out, said in (
        ("x", "new", "'x' names no repository"),
        ("me/x:part", "new", "names no repository"),
        ("me/x", "full", "full is not an empty folder"),
        ("me/x", "new", r"me/x cannot be fetched \(404: there is none of that name"),
    ):
        with pytest.raises(ImagecotError, match=said):
            pull_from_hub(name, tmp_path / out)
    assert not (tmp_path / "new").exists()
