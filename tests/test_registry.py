"""Names: each form in each role, and what can be wrong with one."""

import hashlib
import json
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from imagecot import hub, imported, load_generator, load_verifier, models, registry
from imagecot.contracts import (
    Detector,
    Generator,
    Strategy,
    Verifier,
    World,
)
from imagecot.errors import ImagecotError, UsageError
from imagecot.families import FAMILIES, Checkpoint, Family
from imagecot.geneval.published import CLIP
from imagecot.verifiers.llava_onevision import LlavaOnevisionVerifier
from somebodys_module import CLASSES
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
