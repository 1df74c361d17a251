"""P(yes) in bfloat16 tells images apart whose logits bfloat16 does not: the last product is one in float32."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from imagecot.contracts.questions import ORM
from imagecot.verifiers import any_vlm, load_verifier
from imagecot.verifiers.any_vlm import AnyVlm
from imagecot.verifiers.exact import exact_logits, logits_of
from test_verifier_any_vlm import write

PATHS = 20


def images() -> Tensor:
    """Images as paths of one prompt: a picture with some noise."""
    noise = torch.Generator().manual_seed(0)
    return (torch.rand(1, 3, 28, 28, generator=noise) + 0.02 * torch.randn(PATHS, 3, 28, 28, generator=noise)).clamp(
        0, 1
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write("llava", tmp_path_factory.mktemp("llava"))


@pytest.fixture
def verifier(folder: Path) -> AnyVlm:
    """A verifier in bfloat16 with a spelling of yes and no each, whose logits are about 20, as in large models."""
    found = load_verifier(folder, dtype="bfloat16")
    assert isinstance(found, AnyVlm)
    found._yes, found._no = found._yes[:1], found._no[:1]
    head, states = found.model.get_output_embeddings(), []
    assert isinstance(head, nn.Linear)
    handle = head.register_forward_pre_hook(lambda _, inputs: states.append(inputs[0][:, -1].float()))
    found.ask(images(), ["a photo of a cat"], ORM)
    handle.remove()
    mean = torch.cat(states).mean(0)
    with torch.no_grad():
        head.weight[[*found._yes, *found._no]] += (20 * mean / mean.square().sum()).bfloat16()
    return found


def test_images_with_equal_logits_in_bfloat16_are_told_apart(verifier: AnyVlm, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = verifier.ask(images(), ["a photo of a cat"], ORM)
    monkeypatch.setattr(any_vlm, "exact_logits", lambda head, ids: nullcontext())
    short = verifier.ask(images(), ["a photo of a cat"], ORM)
    assert short.unique().numel() <= PATHS // 2
    assert exact.unique().numel() == PATHS
    assert 1e-3 < float((exact - short).abs().max()) < 0.1  # they are the same up to the rounding


def test_other_logits_stay_and_the_head_is_left_as_it_was() -> None:
    head = nn.Linear(16, 8, dtype=torch.bfloat16)
    state = torch.randn(3, 2, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    plain = head(state)
    with exact_logits(head, [5, 1, 5]):
        found = head(state)
    whole = torch.nn.functional.linear(state.float(), head.weight.float(), head.bias.float())
    torch.testing.assert_close(found[..., [1, 5]], whole[..., [1, 5]])
    assert torch.equal(found[..., [0, 2, 3, 4, 6, 7]], plain[..., [0, 2, 3, 4, 6, 7]].float())
    assert torch.equal(head(state), plain)
    assert torch.equal(logits_of(state[0], head.weight, None, [1])[:, 1], state[0].float() @ head.weight[1].float())


def test_a_head_in_float32_is_not_touched() -> None:
    head = nn.Linear(4, 3)
    with exact_logits(head, [0]), exact_logits(None, [0]), exact_logits(nn.Identity(), [0]):
        assert not head._forward_hooks
