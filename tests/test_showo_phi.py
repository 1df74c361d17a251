"""The trunk of Show-o is `PhiForCausalLM` of transformers: its names, its initial weights, and what it computes."""

import pytest
import torch
from transformers import DynamicCache, PhiConfig
from transformers import PhiForCausalLM as Stock

from imagecot.generators.attention import KeysAndValues
from imagecot.generators.showo.config import ShowoConfig
from imagecot.generators.showo.phi import PhiForCausalLM

CONFIG = ShowoConfig(
    codebook_size=64, num_vq_tokens=16, llm_vocab_size=90, max_text_len=20, hidden_size=48, num_hidden_layers=3,
    num_attention_heads=3, intermediate_size=80, max_position_embeddings=64, rope_theta=500.0,
)  # fmt: skip


def stock(config: ShowoConfig) -> Stock:
    rope = {"rope_theta": config.rope_theta, "partial_rotary_factor": config.partial_rotary_factor}
    return Stock(
        PhiConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_hidden_layers,
            num_attention_heads=config.num_attention_heads,
            max_position_embeddings=config.max_position_embeddings,
            layer_norm_eps=config.layer_norm_eps,
            hidden_act="gelu_pytorch_tanh",
            rope_parameters={"rope_type": "default", **rope},
            qk_layernorm=True,
            bos_token_id=None,
            eos_token_id=None,
            attn_implementation="sdpa",
        )
    )


@pytest.fixture(scope="module")
def both() -> tuple[PhiForCausalLM, Stock]:
    torch.manual_seed(3)
    own = PhiForCausalLM(CONFIG)
    torch.manual_seed(3)
    return own.eval(), stock(CONFIG).eval()


def test_names_and_initial_weights(both: tuple[PhiForCausalLM, Stock]) -> None:
    own, other = (model.state_dict() for model in both)
    assert list(own) == list(other)
    assert all(torch.equal(own[name], other[name]) for name in own)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_states_and_gradients(
    both: tuple[PhiForCausalLM, Stock], fused: bool, masked: bool, dtype: torch.dtype
) -> None:
    own, other = both
    own.model.fused = fused
    other.set_attn_implementation("sdpa" if fused else "eager")
    ids = torch.arange(24).view(2, 12) * 7 % 90
    hidden = torch.ones(12, 12, dtype=torch.bool).triu(3)
    mask = torch.zeros(1, 1, 12, 12, dtype=dtype).masked_fill(hidden, -1e4) if masked else None
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        embedded = own.model.embed_tokens(ids).to(dtype)
        found = own.model(inputs_embeds=embedded, attention_mask=mask)
        expected = other.model(inputs_embeds=embedded, attention_mask=mask, use_cache=False).last_hidden_state
    assert torch.equal(found, expected)
    own.zero_grad()
    other.zero_grad()
    found.float().square().sum().backward(retain_graph=True)
    expected.float().square().sum().backward()
    mine, theirs = (dict(model.model.layers.named_parameters()) for model in both)
    assert all(torch.equal(mine[name].grad, theirs[name].grad) for name in mine)


@torch.no_grad()
def test_a_cache(both: tuple[PhiForCausalLM, Stock]) -> None:
    own, other = both
    own.model.fused = True
    other.set_attn_implementation("sdpa")
    ids, mine, theirs = torch.arange(11)[None] * 5 % 90, KeysAndValues(), DynamicCache()
    for first, end in ((0, 9), (9, 10), (10, 11)):
        part = ids[:, first:end]
        found = own.model(part, None, torch.arange(first, end)[None], mine)
        assert torch.equal(found, other.model(part, cache=theirs, use_cache=True).last_hidden_state)
    kept = [layer.keys for layer in theirs.layers]
    assert len(kept) == 3 and all(torch.equal(keys, k) for (keys, _), k in zip(mine, kept, strict=True))


def test_activations_that_are_computed_again_change_nothing(both: tuple[PhiForCausalLM, Stock]) -> None:
    torch.manual_seed(3)
    again = PhiForCausalLM(CONFIG)
    again.model.activation_checkpointing_enable()
    passes: list[int] = []
    again.model.layers[1].mlp.register_forward_pre_hook(lambda *_: passes.append(1))
    own, ids = both[0], torch.arange(12)[None]
    own.model.fused = True
    own.zero_grad()
    for model in (own, again):
        model.model(ids).square().sum().backward()
    assert len(passes) == 2
    assert all(
        torch.equal(a.grad, b.grad) for a, b in zip(own.model.parameters(), again.model.parameters(), strict=True)
    )
