"""Names: each form in each role, what can be wrong with one, and what checkpoints bring along."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imagecot import hub, imported, load_generator, load_verifier, models, registry
from imagecot.contracts import (
    CLARITY,
    ORM,
    POTENTIAL,
    Advised,
    Detector,
    Generator,
    Question,
    Strategy,
    Verifier,
    World,
)
from imagecot.contracts.verifier import Usage
from imagecot.errors import ImagecotError, UsageError
from imagecot.families import FAMILIES, Checkpoint, Family
from imagecot.geneval.published import CLIP
from imagecot.search_config import SearchDefaults, copy_search_config, read_search_config, search_defaults
from imagecot.verifiers.llava_onevision import LlavaOnevisionVerifier
from imagecot.verifiers.wording import Habits, worded
from small_models import write_generator, write_verifier
from test_geneval_clip_colors import small_clip
from test_geneval_mmdet_weights import small_mask2former

torch.set_num_threads(1)
PROTOCOLS = {
    "generator": Generator,
    "verifier": Verifier,
    "detector": Detector,
    "search": Strategy,
    "world": World,
}
# The least that an object of each role can be.
SOURCE = """
from pydantic import BaseModel

from imagecot.contracts import Canvas, Usage

class Draws:
    steps, rows_per_path, paths_per_pass, canvas = 2, 1, 4, Canvas((2, 3), 5, (8, 12))

    def __init__(self, device="cpu", dtype=None):
        self.settings = {"device": str(device), "dtype": str(dtype)}

    def start(self, prompts, seeds): ...
    def resume(self, prompts, seeds, codes, step): ...
    def advance(self, paths): ...
    def preview(self, paths): ...
    def decode(self, codes): ...

class Judges:
    settings, usage = {}, Usage()

    def ask(self, images, prompts, question, after=None): ...
    def begin(self, images, prompts, question): ...

class Finds:
    name, classes = "finds", ("cup",)

    def detect(self, images): ...
    def record(self): ...

class Chooses:
    class Settings(BaseModel):
        pass

    needs = frozenset()

    def paths(self, n): ...
    def choose(self, run): ...
    def replay(self, recorded, settings): ...

class Lives:
    name, classes, judges, words = "lives", ("cup",), ("finds",), None

    def prompts(self): ...
    def training_prompts(self, per_task, seed): ...
    def load_judges(self, name, colors=None): ...

def judging(**given):
    found = Judges()
    found.settings = {name: str(value) for name, value in given.items()}
    return found

THERE = Judges()
number = 3

class Deaf(Judges):
    ask = None

class Blank:
    pass

class Broken(Judges):
    def __init__(self):
        raise OSError("the disk\\nis gone")

class Leaves(Judges):
    def __init__(self):
        raise SystemExit(3)

class Needy(Judges):
    def __init__(self, vocabulary):
        pass

class Secret(Judges):
    @property
    def settings(self):
        raise RuntimeError("nobody told me")

class Careful(Judges):
    def __init__(self):
        from imagecot.errors import UsageError

        raise UsageError("set the key first.")
"""
CLASSES = {"generator": "Draws", "verifier": "Judges", "detector": "Finds", "search": "Chooses", "world": "Lives"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a module of somebody else, and no hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/__init__.py").write_text("from theirs.own import Judges\n")
    (tmp_path / "theirs/own.py").write_text(SOURCE)
    (tmp_path / "fails.py").write_text("import no_such_module_at_all\n")
    (tmp_path / "wrong.py").write_text("def\n")
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("theirs", "fails", "wrong"):
            del sys.modules[name]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    write_generator(folder / "generator")
    write_verifier(folder / "verifier")
    return folder


def sha256(*files: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


# Every form of a name.


@pytest.mark.parametrize("role", PROTOCOLS)
def test_all_names_of_the_table_stand_for_what_they_say(role: str) -> None:
    shipped = [name for name in registry.names(role) if "/" not in name]
    assert shipped
    for name in shipped if role not in ("generator", "verifier") else shipped[:2]:
        assert registry.check(role, name) == name
        assert not registry.is_code(role, name)
        found = registry.load(role, name)
        assert isinstance(found, PROTOCOLS[role])


def test_old_spellings() -> None:
    assert registry.load("world", "tiny").name == registry.load("world", "drawn").name == "drawn"
    assert "tiny" not in registry.names("world")
    assert not registry.is_code("world", "tiny")


@pytest.mark.parametrize("role", PROTOCOLS)
def test_a_class_of_a_module_in_the_current_folder(here: Path, role: str) -> None:
    name = f"theirs.own:{CLASSES[role]}"
    assert registry.check(role, name) == name
    found = registry.load(role, name)
    assert isinstance(found, PROTOCOLS[role])
    assert type(found).__module__ == "theirs.own"
    assert registry.is_code(role, name)
    assert registry.digests(role, name) == {role: sha256(here / "theirs/own.py")}


@pytest.mark.parametrize("role", PROTOCOLS)
def test_what_an_installed_package_names(here: Path, role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    group = f"imagecot.{role}{'e' * (role == 'search')}s"
    point = metadata.EntryPoint("fancy", f"theirs.own:{CLASSES[role]}", group)

    def installed(**wanted: str) -> metadata.EntryPoints:
        return metadata.EntryPoints([point]).select(**wanted)

    monkeypatch.setattr(imported.metadata, "entry_points", installed)
    assert "fancy" in registry.names(role)
    assert isinstance(registry.load(role, "fancy"), PROTOCOLS[role])
    assert registry.is_code(role, "fancy")
    assert registry.digests(role, "fancy") == {role: sha256(here / "theirs/own.py")}
    other = next(other for other in PROTOCOLS if other != role)
    with pytest.raises(UsageError, match=f"there is no {other} 'fancy'"):
        registry.check(other, "fancy")


def test_an_installed_package_hides_no_name_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    points = metadata.EntryPoints([metadata.EntryPoint("parm", "nowhere:Parm", "imagecot.searches"),
                                   metadata.EntryPoint("tiny", "nowhere:Tiny", "imagecot.generators")])  # fmt: skip
    monkeypatch.setattr(imported.metadata, "entry_points", lambda **wanted: points.select(**wanted))
    assert type(registry.load("search", "parm")).__module__ == "imagecot.strategies.parm"
    assert not registry.is_code("generator", "tiny")
    assert registry.names("search").count("parm") == 1


def test_instances_and_functions_that_make_one(here: Path) -> None:
    assert registry.load("verifier", "theirs.own:THERE") is registry.load("verifier", "theirs.own:THERE")
    made = registry.load("verifier", "theirs.own:judging", dtype="bfloat16")
    assert made.settings == {"dtype": "bfloat16"}
    for name in ("theirs.own:THERE", "theirs.own:judging"):
        assert registry.digests("verifier", name) == {"verifier": sha256(here / "theirs/own.py")}
    # A package that only passes a class on: what counts is where the class is written.
    assert registry.digests("verifier", "theirs:Judges") == {"verifier": sha256(here / "theirs/own.py")}


def test_the_source_of_a_class_is_that_of_its_bases_too(here: Path) -> None:
    (here / "root_of_it.py").write_text("class Root:\n    level = 1\n")
    (here / "branch_of_it.py").write_text("from root_of_it import Root\nclass Branch(Root):\n    pass\n")
    before = registry.digests("generator", "branch_of_it:Branch")
    (here / "root_of_it.py").write_text("class Root:\n    level = 2\n")
    after = registry.digests("generator", "branch_of_it:Branch")
    assert before != after
    assert {*before, *after} == {"generator"}


def test_what_is_given_reaches_a_class_as_it_is(here: Path) -> None:
    generator = load_generator("theirs.own:Draws", device="cpu", dtype=torch.bfloat16)
    assert generator.settings == {"device": "cpu", "dtype": "torch.bfloat16"}
    assert load_generator("theirs.own:Draws").settings == {"device": "cpu", "dtype": "None"}
    assert load_verifier("theirs.own:Judges", device="cpu").settings == {}  # which takes neither
    with pytest.raises(UsageError, match=r"theirs\.own:Judges takes no dtype, .* leave the precision out\."):
        load_verifier("theirs.own:Judges", dtype="float32")


def test_the_current_folder_comes_last_once_the_module_is_there(here: Path) -> None:
    registry.load("verifier", "theirs.own:Judges")
    assert sys.path[0] != str(here)
    assert sys.path.count(str(here)) == 1
    registry.load("verifier", "theirs.own:Judges")
    assert sys.path.count(str(here)) == 1


def test_models_by_folder_and_hub_id(here: Path, small: Path) -> None:
    for role, load in (("generator", load_generator), ("verifier", load_verifier)):
        by_name = registry.load(role, str(small / role))
        assert isinstance(by_name, PROTOCOLS[role]) and isinstance(load(small / role), PROTOCOLS[role])
        cached = here / f"hub/models--acme--{role}"
        shutil.copytree(small / role, cached / "snapshots/1/part")
        (cached / "refs").mkdir()
        (cached / "refs/main").write_text("1")
        assert isinstance(registry.load(role, f"acme/{role}:part"), PROTOCOLS[role])
        assert registry.digests(role, f"acme/{role}:part") == registry.digests(role, str(small / role)) != {}
        assert not registry.is_code(role, f"acme/{role}:part")
        assert registry.folder_of(role, f"acme/{role}:part") == cached / "snapshots/1/part"


def test_a_role_may_be_called_by_what_it_does(small: Path) -> None:
    assert isinstance(registry.load("corrector", small / "generator"), Generator)
    assert list(registry.digests("corrector", str(small / "generator"))) == [
        "corrector", "corrector_generation_config", "corrector_image_tokenizer",
    ]  # fmt: skip
    with pytest.raises(UsageError, match=r"there is no corrector 'tyni' \(did you mean tiny\?\); choose one of tiny, "):
        registry.check("corrector", "tyni")


def test_what_the_hub_can_have_is_not_known_before(here: Path) -> None:
    for role in ("generator", "verifier", "detector"):
        assert registry.check(role, "acme/not-here") == "acme/not-here"
        assert registry.check(role, "acme/not-here:part") == "acme/not-here:part"
        with pytest.raises(ImagecotError, match="cannot be downloaded"):
            registry.load(role, "acme/not-here")


# Names that can be nothing.


@pytest.mark.parametrize("role", PROTOCOLS)
@pytest.mark.parametrize(
    "name", ["", " ", "nothing", "a/b/c", "./a", "-/x", "../x", "acme/gen:../../x", "a\0b", "x" * 5000, ":", "a:", ":b",
             "no such:Thing", None, 3, "\x1b[31m"]
)  # fmt: skip
def test_names_that_can_be_nothing(here: Path, role: str, name: Any) -> None:
    for use in (registry.check, registry.load):
        with pytest.raises(UsageError) as caught:
            use(role, name)
        assert str(caught.value).endswith(".") and str(caught.value).isprintable()
        assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("role", "name", "near"),
    [
        ("search", "best-off-n", "best-of-n"),
        ("search", "parm+", "parm"),
        ("world", "drown", "drawn"),
        ("detector", "pictogram", "pictograms"),
        ("generator", "tinny", "tiny"),
        ("verifier", "tiny-parn", "tiny-parm"),
    ],
)
def test_the_nearest_name_is_told(role: str, name: str, near: str) -> None:
    with pytest.raises(UsageError, match=rf"there is no {role} '{name[:8]}.* \(did you mean {near}"):
        registry.check(role, name)


def test_urls_name_verifiers_with_a_model_and_nothing_else() -> None:
    for name in ("http://localhost:8000/v1", "https://example.org"):
        with pytest.raises(UsageError, match="names a server and no model"):
            registry.load("verifier", name)
        with pytest.raises(UsageError, match="that is served cannot be had"):
            registry.load("generator", f"{name}#model")


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("nowhere:Judges", UsageError, r"nowhere:Judges: there is no module 'nowhere'"),
        ("theirs.nowhere:Judges", UsageError, r"there is no module 'theirs\.nowhere'"),
        ("theirs.own.deeper:Judges", UsageError, r"there is no module 'theirs\.own\.deeper'"),
        ("theirs.own:Jugdes", UsageError, "theirs.own has no 'Jugdes'; check its spelling"),
        ("theirs.own:Judges.nothing", UsageError, "has no 'nothing'"),
        ("theirs.own:number", UsageError, "is neither a class nor a function, but a int"),
        ("theirs.own:Blank", UsageError, "is no verifier: it has no settings, usage, ask, begin; imagecot.contracts.V"),
        ("theirs.own:Deaf", UsageError, "is no verifier: it has no ask;"),
        ("theirs.own:Draws", UsageError, "is no verifier: it has no usage, ask, begin;"),
        ("theirs.own:Needy", UsageError, "cannot be made without arguments .*vocabulary"),
        ("theirs.own:Broken", ImagecotError, r"cannot be made \(OSError: the disk\); mend it"),
        ("theirs.own:Leaves", ImagecotError, r"cannot be made \(SystemExit: 3\)"),
        ("theirs.own:Secret", ImagecotError, r"its settings cannot be had \(RuntimeError: nobody told me\)"),
        ("theirs.own:Careful", UsageError, r"^set the key first\.$"),
        ("fails:Judges", ImagecotError, r"fails:Judges cannot be imported \(ModuleNotFoundError: .*no_such_module"),
        ("wrong:Judges", ImagecotError, r"wrong:Judges cannot be imported \(SyntaxError"),
    ],
)
def test_what_is_wrong_with_a_class_is_one_sentence(here: Path, name: str, kind: type, message: str) -> None:
    with pytest.raises(ImagecotError, match=message) as caught:
        registry.load("verifier", name)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize("role", PROTOCOLS)
def test_a_class_that_lacks_any_one_member(here: Path, role: str) -> None:
    """Each member of a protocol is missed, and named, where it alone is not there."""
    whole = registry.load(role, f"theirs.own:{CLASSES[role]}")
    protocol = PROTOCOLS[role]
    for member in [m for m in {**vars(protocol), **protocol.__annotations__} if not m.startswith("_")]:
        kept = {name: value for name, value in vars(type(whole)).items() if name != member and not name.startswith("_")}
        kept |= {name: value for name, value in vars(whole).items() if name != member}
        sys.modules["theirs.own"].Cut = type("Cut", (), kept)  # type: ignore[attr-defined]
        with pytest.raises(UsageError, match=f"theirs.own:Cut is no {role}: it has no {member};"):
            registry.load(role, "theirs.own:Cut")


def test_code_of_a_checkpoint_is_never_a_name(here: Path, small: Path) -> None:
    """A folder beats a class of the same name, and its files are not imported."""
    folder = Path(shutil.copytree(small / "verifier", here / "evil:Evil"))
    (here / "evil.py").write_text("raise SystemExit\n")
    assert not registry.is_code("verifier", "evil:Evil")
    assert isinstance(registry.load("verifier", "evil:Evil"), LlavaOnevisionVerifier)
    assert registry.folder_of("verifier", "evil:Evil").samefile(folder)


# Folders with several roles.


def test_a_folder_has_the_role_that_is_asked_for(here: Path, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = Path(shutil.copytree(small / "verifier", here / "both"))
    config = json.loads((both / "config.json").read_text())
    (both / "config.json").write_text(json.dumps(config | {"draws_too": True}))
    (both / "generation_config.json").write_text("{}")
    seen: list[tuple[Checkpoint, Any, Any]] = []
    sys.modules["theirs_loading"] = type(sys)("theirs_loading")
    monkeypatch.setitem(sys.modules, "theirs_loading", sys.modules["theirs_loading"])
    generator = registry.load("generator", "tiny")
    sys.modules["theirs_loading"].load = lambda *given: seen.append(given) or generator  # type: ignore[attr-defined]
    family = Family("Both", lambda config: "draws_too" in config, "theirs_loading:load")
    monkeypatch.setitem(FAMILIES, "generator", (family, *FAMILIES["generator"]))
    assert models.kinds_of_folder(both) == ("generator", "verifier")
    assert registry.load("generator", "both", device="cpu", dtype="float32") is generator
    assert seen == [(Checkpoint("both", (Path("both"),)), "cpu", "float32")]
    assert isinstance(registry.load("verifier", "both"), LlavaOnevisionVerifier)
    assert list(registry.digests("generator", "both")) == ["generator", "generation_config"]
    assert list(registry.digests("verifier", "both")) == ["verifier"]
    monkeypatch.setattr(hub, "CHECKPOINTS", here)
    assert "both" in models.shipped("generator") and "both" in models.shipped("verifier")
    [row] = [row for row in models.list_models() if row.name == "both"]
    assert row.kinds == ("generator", "verifier")


def test_a_folder_without_the_role_is_refused(small: Path) -> None:
    with pytest.raises(UsageError, match=r"is not a Show-o or .* checkpoint by its config\.json; pass a generator"):
        load_generator(small / "verifier")
    with pytest.raises(UsageError, match="is not a vision-language checkpoint"):
        load_verifier("tiny-magvitv2")
    with pytest.raises(UsageError, match=r"cannot judge: its tokenizer has no token for yes or for no"):
        load_verifier(small / "generator")
    with pytest.raises(UsageError, match="is not a pictogram detector or Mask2Former checkpoint"):
        registry.load("detector", small / "verifier")


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("tiny", ("generator",)), ("tiny-self-correct", ("generator",)), ("tiny-parm++", ("verifier",)),
        ("tiny-zero-shot", ("verifier",)), ("tiny-detector-2", ("detector",)), ("tiny-magvitv2", ("image tokenizer",)),
    ],
)  # fmt: skip
def test_what_the_shipped_folders_are(name: str, kinds: tuple[str, ...]) -> None:
    assert models.kinds_of_folder(hub.CHECKPOINTS / name) == kinds


# What identifies a model.


def test_digests_are_those_of_the_files_that_are_loaded() -> None:
    folder = hub.CHECKPOINTS
    adapter = "adapter_model.safetensors"
    assert list(registry.digests("generator", "tiny-dpo").items()) == [
        ("generator_base", sha256(folder / "tiny/model.safetensors")),
        ("generation_config", sha256(folder / "tiny-dpo/generation_config.json")),
        ("image_tokenizer", sha256(folder / "tiny-magvitv2/model.safetensors")),
        ("generator", sha256(folder / "tiny-dpo" / adapter)),
    ]
    assert list(registry.digests("verifier", "tiny-parm++").items()) == [
        ("verifier_base_base_base", sha256(folder / "tiny-zero-shot/model.safetensors")),
        ("verifier_base_base", sha256(folder / "tiny-orm" / adapter)),
        ("verifier_base", sha256(folder / "tiny-parm" / adapter)),
        ("verifier", sha256(folder / "tiny-parm++" / adapter)),
    ]
    detector = sha256(folder / "tiny-detector-2/model.safetensors")
    assert registry.digests("detector", "pictograms-2") == {"detector": detector}
    assert registry.digests("search", "parm") == registry.digests("world", "tiny") == {}
    assert registry.digests("generator", "nothing") == {}


def test_a_file_of_weights_is_a_detector(here: Path) -> None:
    (here / "mmdet.pth").write_bytes(b"weights")
    assert registry.check("detector", "mmdet.pth") == "mmdet.pth"
    assert registry.digests("detector", "mmdet.pth") == {"detector": sha256(here / "mmdet.pth")}
    with pytest.raises(UsageError, match=r"there is no generator 'mmdet\.pth'"):
        registry.check("generator", "mmdet.pth")


def test_a_detector_of_transformers_names_colours_by_clip(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = small_clip()
    small_mask2former(5).save_pretrained(here / "finds")
    asked = []
    monkeypatch.setattr(
        "imagecot.geneval.clip_colors.ClipColors.from_pretrained", lambda name, **more: asked.append(name) or clip
    )
    detector = registry.load("detector", "finds", dtype="bfloat16")
    assert isinstance(detector, Detector)
    assert detector.name == "mask2former-swin-custom (folder finds)"
    assert (detector.dtype, detector.clip, asked) == (torch.bfloat16, clip, [CLIP])
    assert registry.digests("detector", "finds") == {"detector": sha256(here / "finds/model.safetensors")}


# What checkpoints bring along.

DRAWN = {"best-of-n": "tiny-orm", "stepwise": "tiny-prm", "parm": "tiny-parm", "parm++": "tiny-parm++"}
DRAWN |= dict.fromkeys(("adaptive", "hierarchical", "resample", "rewind"), "tiny-orm") | {"beam": "tiny-prm"}
ROUNDS = {
    "tiny-orm": {"threshold": 0.9, "fall": 0.675, "share": 0.2},
    "tiny-parm": {"threshold": 0.9, "fall": 0.7, "share": 0.2},
    "tiny-janus": {"threshold": 0.9998, "share": 0.2},
}
ROUNDS["tiny-parm++"] = ROUNDS["tiny-parm"]


@pytest.mark.parametrize("name", models.shipped("generator"))
def test_defaults_of_the_shipped_generators(name: str) -> None:
    said = registry.search_defaults(name)
    if name.startswith("tiny-janus"):
        assert (said.search, said.corrector, said.world) == ("best-of-n", None, "drawn")
        assert {*said.verifiers.values()} == {"tiny-janus", "tiny-janus-parm"}
    else:
        corrector = None if name == "tiny-self-correct" else "tiny-self-correct"
        assert said == SearchDefaults(search="parm", verifiers=DRAWN, corrector=corrector, world="drawn")
    for named in said.verifiers.values():
        assert named in models.shipped("verifier")
    assert registry.world_of(name) == "drawn"


@pytest.mark.parametrize("name", models.shipped("verifier"))
def test_defaults_of_the_shipped_verifiers(name: str) -> None:
    stopping = {"first_step": 6, "keep": 0.4}
    own = {"parm": stopping, "parm++": stopping} if name in ("tiny-parm", "tiny-parm++") else {}
    own |= {"parm": {"first_step": 5, "keep": 0.5}} if name == "tiny-janus-parm" else {}
    own |= {"adaptive": ROUNDS[name]} if name in ROUNDS else {}
    assert registry.advice(name) == own
    assert registry.search_defaults(name).questions == {}


def test_a_loaded_verifier_knows_its_habits() -> None:
    verifier = load_verifier("tiny-parm++")
    assert isinstance(verifier, Advised)
    assert verifier.advice == registry.advice("tiny-parm++")
    assert verifier.settings == {"precision": "float32"}
    assert verifier.usage == Usage()
    assert load_verifier("tiny-orm", dtype="int8").settings == {"precision": "int8"}
    assert load_verifier("tiny-orm", dtype=torch.bfloat16).settings == {"precision": "bfloat16"}


def test_of_what_is_not_known_nothing_is_said(here: Path) -> None:
    for name in ("acme/not-here", "theirs.own:Judges", "nothing"):
        assert registry.search_defaults(name) == SearchDefaults()
        assert registry.world_of(name) == "geneval"


def test_the_world_of_older_folders(here: Path, small: Path) -> None:
    folder = Path(shutil.copytree(small / "generator", here / "older"))
    assert registry.world_of("older") == "drawn"
    config = json.loads((folder / "config.json").read_text())
    for words, world in (([], "geneval"), (None, "geneval"), ("a", "geneval"), (["a"], "drawn")):
        (folder / "config.json").write_text(json.dumps(config | {"known_words": words}))
        assert registry.world_of("older") == world
    write(folder, {"world": "theirs.own:Lives"})
    assert registry.world_of("older") == "theirs.own:Lives"


def write(folder: Path, values: Any) -> None:
    (folder / "search_config.json").write_text(json.dumps(values))


def test_an_adapter_speaks_before_its_base(here: Path, small: Path) -> None:
    base = Path(shutil.copytree(small / "verifier", here / "base"))
    (here / "adapter").mkdir()
    (here / "adapter/adapter_config.json").write_text(json.dumps({
        "peft_type": "LORA", "base_model_name_or_path": str(base), "r": 4, "lora_alpha": 8, "target_modules": ["x"],
    }))  # fmt: skip
    write(base, {"searches": {"parm": {"keep": 0.1}}, "corrector": "someone", "world": "drawn"})
    assert search_defaults("adapter").searches == {"parm": {"keep": 0.1}}
    write(here / "adapter", {"searches": {"mine": {"deep": True}}, "corrector": None})
    said = search_defaults("adapter")
    assert said.searches == {"mine": {"deep": True}}  # as a whole
    assert (said.corrector, said.world) == (None, "drawn")
    (here / "copied").mkdir()
    copy_search_config("adapter", here / "copied")
    assert json.loads((here / "copied/search_config.json").read_text()) == {
        "searches": {"mine": {"deep": True}}, "world": "drawn",
    }  # fmt: skip
    write(here / "copied", {"world": "geneval"})
    copy_search_config(here / "adapter", here / "copied")  # what is there is kept
    assert read_search_config(here / "copied").world == "geneval"


def test_nothing_is_copied_where_nothing_is_said(here: Path, small: Path) -> None:
    for base in (str(small / "verifier"), "acme/not-here"):
        copy_search_config(base, here)
        assert not (here / "search_config.json").exists()
    copy_search_config("tiny-parm", here, {"clarity": "Is {prompt} clear?"})
    assert read_search_config(here).questions == {"clarity": "Is {prompt} clear?"}
    assert read_search_config(here).searches == registry.advice("tiny-parm")


def test_a_verifier_asks_in_the_words_that_it_was_trained_on(here: Path, small: Path) -> None:
    folder = Path(shutil.copytree(small / "verifier", here / "own"))
    images = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(3))
    plain = load_verifier(folder)
    templates = {"clarity": " Is it clear that it becomes {prompt}?", "orm": " {prompt}, yes?"}
    write(folder, {"questions": templates})
    own = load_verifier(folder)
    assert own.settings == {"precision": "float32", "questions": templates}
    clarity, orm = Question("clarity", templates["clarity"]), Question("orm", templates["orm"])
    potential = Question("potential", POTENTIAL.template, clarity)
    for asked, said in ((ORM, orm), (CLARITY, clarity), (POTENTIAL, potential)):
        answers = own.ask(images, ["a cat"], asked)
        torch.testing.assert_close(answers, plain.ask(images, ["a cat"], said))
        assert (answers - plain.ask(images, ["a cat"], asked)).abs().max() > 1e-4
    first, begun = own.begin(images, ["a cat"], CLARITY)
    torch.testing.assert_close(own.ask(images, ["a cat"], POTENTIAL, begun), own.ask(images, ["a cat"], POTENTIAL))
    # Another question that follows the paper's follows it in these words.
    again = Question("again", "Really?", CLARITY)
    torch.testing.assert_close(own.ask(images, ["a cat"], again, begun), own.ask(images, ["a cat"], again))
    assert first.shape == (2,)


def test_wording_of_one_question_changes_what_follows_it() -> None:
    habits = Habits(wording=worded({"clarity": "Clear, {prompt}?"}))
    clarity = Question("clarity", "Clear, {prompt}?")
    assert habits.said(CLARITY) == clarity == habits.said(clarity)
    assert habits.said(POTENTIAL) == Question("potential", POTENTIAL.template, clarity)
    assert habits.said(ORM) is ORM
    assert worded({}) == worded({"orm": ORM.template}) == {}


GOOD: Mapping[str, Any] = {
    "searches": {"parm": {"first_step": 6, "keep": 0.4}},
    "questions": {"clarity": "Clear, {prompt}?", "potential": "And then?"},
    "search": "parm", "verifiers": {"parm": "tiny-parm"}, "corrector": None, "world": "drawn",
}  # fmt: skip


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"serches": {}}, "serches is not a known key"),
        ({"searches": {"parm": 3}}, "searches.parm"),
        ({"searches": {"parm": {"keep": [1]}}}, "searches.parm.keep"),
        ({"questions": {"clarty": "{prompt}?"}}, "there is no question 'clarty'"),
        ({"questions": {"clarity": "Is it clear?"}}, "template of clarity must have {prompt} where"),
        ({"questions": {"potential": "Will it be {prompt}?"}}, "template of potential must have no {prompt}"),
        ({"questions": {"orm": ""}}, "questions.orm"),
        ({"verifiers": {"parm": None}}, "verifiers.parm"),
        ({"search": 3}, "search"),
        ({"world": ""}, "world"),
        ([], "object"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(here: Path, small: Path, values: Any, message: str) -> None:
    folder = Path(shutil.copytree(small / "verifier", here / "damaged"))
    write(folder, {**GOOD, **values} if isinstance(values, dict) else values)
    for use in (search_defaults, load_verifier, registry.world_of):
        with pytest.raises(ImagecotError, match=message.replace("{", r"\{")) as caught:
            use(str(folder))
        assert str(folder / "search_config.json") in str(caught.value)
        assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.just("x" * 5000),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=9), inner, max_size=2),
    max_leaves=5,
)


@given(st.sampled_from([*GOOD, "other"]), ODD)
def test_any_value_in_a_file(tmp_path_factory: pytest.TempPathFactory, field: str, value: Any) -> None:
    folder = tmp_path_factory.mktemp("any")
    write(folder, {**GOOD, field: value})
    works_or_says_why(folder)


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_in_a_file(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    (folder / "search_config.json").write_bytes(content)
    works_or_says_why(folder)


def works_or_says_why(folder: Path) -> None:
    try:
        read_search_config(folder)
    except ImagecotError as error:
        assert str(folder) in str(error)
        assert len(str(error)) < 1000


def test_a_folder_in_the_place_of_the_file(here: Path) -> None:
    (here / "search_config.json").mkdir()
    with pytest.raises(ImagecotError, match=r"search_config\.json is a folder"):
        read_search_config(here)


# What names cost.


def test_names_are_told_without_loading_anything() -> None:
    code = (
        "import sys\n"
        "from imagecot import registry\n"
        "assert not {'torch', 'numpy', 'pydantic', 'transformers'} & set(sys.modules)\n"
        "names = [registry.names(role) for role in registry.ROLES]\n"
        "registry.search_defaults('tiny-dpo'), registry.advice('tiny-parm'), registry.world_of('tiny')\n"
        "[registry.check('verifier', 'tiny-orm'), registry.check('search', 'parm'), registry.check('world', 'tiny')]\n"
        "registry.digests('generator', 'tiny-dpo')\n"
        "assert not {'torch', 'numpy', 'transformers'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
