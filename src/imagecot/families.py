"""Families of checkpoints: how a config.json shows what a folder holds, and what loads it in which role.

A folder may have several roles, such as one that draws and judges; the role asked for decides what it is loaded as. A
new family is a line in FAMILIES and a function that loads it. Nothing here imports a model.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name

from imagecot.checkpoint import CONFIG, read_config
from imagecot.contracts.values import JSON
from imagecot.errors import UsageError
from imagecot.precision import Device, Dtype

Config = Mapping[str, JSON]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk.

    name   as it was asked for
    parts  the folders that make it: its base, then the adapters on it; of a weight file the file alone
    """

    name: str
    parts: tuple[Path, ...]


@dataclass(frozen=True)
class Family:
    """A family of checkpoints in one role.

    claims  whether a config.json is one of it; None where only its loader can tell
    loader  `module:function`, called with a `Checkpoint`, a device and a dtype (both may be None)
    work    `module:function` or `module:object` that says what it costs, for estimates: of a generator a function of a
            name and a folder (`imagecot.generators.work`), of a verifier an `imagecot.verifiers.work.Asking`
    suffix  of a weight file that is one of it without any config.json; empty for none
    needs   a library that it is loaded by and the extra of this project that installs it; None where nothing is lacking
    names   hub ids of it that are known before anything is fetched
    shares  of a verifier: `module:function` that makes it of a generator of the same checkpoint that is loaded, called
            with both; it returns None where the weights are of no use to it. Empty where nothing is shared
    """

    name: str
    claims: Callable[[Config], bool | None]
    loader: str
    suffix: str = ""
    work: str = ""
    needs: tuple[str, str] | None = None
    names: tuple[str, ...] = ()
    shares: str = ""

    def check_installed(self) -> None:
        """Raise UsageError where the library is missing that checkpoints of this family need."""
        if self.needs and find_spec(self.needs[0]) is None:
            library, extra = self.needs
            raise UsageError(
                f"{self.name} needs {library}, which is not installed; run pip install 'imagecot[{extra}]'."
            )

    def load(self, checkpoint: Checkpoint, device: Device, dtype: Dtype) -> object:
        """Load a checkpoint of this family; UsageError where a library is missing that it needs."""
        self.check_installed()
        model: object = resolve_name(self.loader)(checkpoint, device, dtype)
        return model

    def around(self, generator: object, checkpoint: Checkpoint) -> object | None:
        """The verifier of a checkpoint, with the weights of the generator that it is too; None where it has its own."""
        model: object | None = resolve_name(self.shares)(generator, checkpoint) if self.shares else None
        return model


_LLAVA = "imagecot.verifiers.loading:load_llava"
_JANUS = ("deepseek-community/Janus-Pro-1B", "deepseek-community/Janus-Pro-7B")
_SHOWO = ("showlab/show-o", "showlab/show-o-512x512")
FAMILIES: dict[str, tuple[Family, ...]] = {
    "generator": (
        Family(
            "Show-o",
            lambda config: "llm_vocab_size" in config,
            "imagecot.generators.showo.loading:load",
            work="imagecot.generators.showo.work:drawing",
            names=_SHOWO,
        ),
        Family(
            "Janus",
            lambda config: config.get("model_type") == "janus",
            "imagecot.generators.janus.loading:load",
            work="imagecot.generators.janus.work:drawing",
            names=_JANUS,
        ),
        Family(
            "LlamaGen",
            lambda config: config.get("model_type") == "llamagen",
            "imagecot.generators.llamagen.loading:load",
            work="imagecot.generators.llamagen.work:drawing",
        ),
        Family(
            "aMUSEd",
            lambda config: config.get("_class_name") == "AmusedPipeline",
            "imagecot.generators.amused.loading:load",
            work="imagecot.generators.amused.work:drawing",
            needs=("diffusers", "amused"),
            names=("amused/amused-256", "amused/amused-512"),
        ),
    ),
    "verifier": (
        Family("LLaVA-NeXT", lambda config: "mm_vision_tower" in config, _LLAVA),
        Family("LLaVA-OneVision", lambda config: config.get("model_type") == "llava_onevision", _LLAVA),
        Family(
            "Janus",
            lambda config: config.get("model_type") == "janus",
            "imagecot.verifiers.loading:load_janus",
            work="imagecot.verifiers.work:JANUS",
            names=_JANUS,
            shares="imagecot.verifiers.loading:janus_around",
        ),
        # Its config.json does not say whether a Show-o was trained to answer.
        Family(
            "Show-o",
            lambda config: None if "llm_vocab_size" in config else False,
            "imagecot.verifiers.loading:load_showo",
            work="imagecot.verifiers.work:SHOWO",
            names=_SHOWO,
            shares="imagecot.verifiers.loading:showo_around",
        ),
        # The list of transformers is long to load, and not all of its models say `vision_config`.
        Family(
            "vision-language",
            lambda config: "vision_config" in config or None,
            "imagecot.verifiers.loading:load_any_vlm",
        ),
    ),
    "detector": (
        Family(
            "pictogram detector",
            lambda config: config.get("model_type") == "pictogram-detector",
            "imagecot.worlds.detectors:load_pictograms",
        ),
        Family(
            "Mask2Former",
            lambda config: config.get("model_type") == "mask2former",
            "imagecot.worlds.detectors:load_mask2former",
            suffix=".pth",
        ),
    ),
}
# What has no role of its own but is a part of a model that has.
_PARTS: dict[str, Callable[[Config], bool]] = {
    "image tokenizer": lambda config: "code_bits" in config or "codebook_embed_dim" in config
}


def kinds_of(config: Config) -> tuple[str, ...]:
    """What a folder is by its config.json: all its roles, or what part of a model it is; empty where nobody knows."""
    roles = [role for role, families in FAMILIES.items() if any(family.claims(config) for family in families)]
    return tuple(roles or [part for part, claims in _PARTS.items() if claims(config)])


def family_of(role: str, folder: Path) -> Family:
    """The family of a folder of whole weights in a role; UsageError where it has none in it."""
    config = read_config(folder)
    said = [(family.claims(config), family) for family in FAMILIES[role]]
    for answer in (True, None):
        for claims, family in said:
            if claims is answer:
                return family
    names = " or ".join(family.name for family in FAMILIES[role])
    raise UsageError(f"{folder} is not a {names} checkpoint by its {CONFIG}; pass a {role}.")


def check_installed(role: str, name: str) -> None:
    """Raise UsageError where a name is known to be of a family whose library is missing."""
    for family in FAMILIES.get(role, ()):
        if name in family.names:
            family.check_installed()


def family_of_file(role: str, file: Path) -> Family | None:
    """The family of which a weight file alone is one; None for any other file."""
    return next((family for family in FAMILIES[role] if family.suffix and file.suffix == family.suffix), None)
