"""A verifier that is named several times in one form or one study is loaded once, and each counts what it does."""

import pytest
import torch

from imagecot import judging, registry
from imagecot.contracts.questions import ORM
from imagecot.images import as_saved
from imagecot.study.models import load_models
from imagecot.verifiers.atoms import Atoms
from imagecot.verifiers.chat_verifier import ChatVerifier

torch.set_num_threads(1)
PROMPT = "a photo of a red cup"
IMAGES = as_saved(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))


def weights(verifier) -> int:
    found = verifier.inner if isinstance(verifier, Atoms) else verifier
    assert isinstance(found, ChatVerifier)
    return id(found.model)


def test_a_part_and_its_atoms_share_weights_and_count_apart():
    both = registry.load("verifier", "mean(tiny-orm,atoms:tiny-orm)")
    whole, atoms = both.parts
    assert weights(whole) == weights(atoms)
    alone = [registry.load("verifier", name) for name in ("tiny-orm", "atoms:tiny-orm")]
    assert len({weights(one) for one in (whole, *alone)}) == 3  # each load has weights of its own
    told = both.ask(IMAGES, [PROMPT], ORM)
    each = [one.ask(IMAGES, [PROMPT], ORM) for one in alone]
    assert told.tolist() == pytest.approx(torch.stack(each).mean(0).tolist())
    assert (whole.usage, atoms.usage) == tuple(one.usage for one in alone)
    assert both.usage.judge_calls == 2 + 4


def test_rows_of_a_study_share_weights():
    found = load_models("tiny", {"tiny-orm", "atoms:tiny-orm", "min(tiny-orm,tiny-prm)"}, "float32").verifiers
    first, second = found["min(tiny-orm,tiny-prm)"].parts
    assert weights(found["tiny-orm"]) == weights(found["atoms:tiny-orm"]) == weights(first) != weights(second)


def test_another_number_format_has_weights_of_its_own():
    with judging.sharing():
        one, other = (registry.load("verifier", "tiny-orm", dtype=dtype) for dtype in ("float32", "bfloat16"))
    assert weights(one) != weights(other)
    assert other.model.dtype == torch.bfloat16
