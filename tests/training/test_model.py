"""The base model: seeded from nothing, loaded safely, refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from ground.errors import UserError
from tests.helpers.runs import TINY
from tests.training.conftest import Finished
from training.config import Architecture, ModelConfig
from training.feed import Rows
from training.flops import parameter_count
from training.model import (
    _attention,
    _logits,
    build_model,
    causal_loss,
    check_vocabulary,
    model_shape,
    training_loss,
)

RANDOM = ModelConfig(init="random", architecture=TINY)


def build(config: ModelConfig = RANDOM, *, seed: int = 1, vocabulary: int = 300, checkpointing: bool = False) -> Any:
    return build_model(config, vocabulary=vocabulary, end_of_document=0, seed=seed, checkpointing=checkpointing)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_random_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(0)
    one = build()
    torch.manual_seed(99)
    assert torch.equal(weights(one), weights(build()))
    assert not torch.equal(weights(one), weights(build(seed=2)))


def test_building_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build()
    assert torch.equal(torch.rand(3), expected)


def test_a_random_model_has_the_shape_asked_for() -> None:
    model = build()
    assert sum(parameter.numel() for parameter in model.parameters()) == parameter_count(TINY, 300)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert (model.config.eos_token_id, model.config.use_cache) == (0, False)
    assert model_shape(RANDOM, 300) == (TINY, 300)


def test_a_stated_vocabulary_may_be_larger_than_the_stores() -> None:
    padded = ModelConfig(init="random", architecture=TINY.model_copy(update={"vocabulary": 320}))
    assert build(padded).config.vocab_size == 320
    assert model_shape(padded)[1] == 320


@pytest.mark.parametrize("vocabulary", [299, 300])
def test_a_store_that_fits_is_accepted(vocabulary: int) -> None:
    check_vocabulary(300, vocabulary)


def test_a_store_of_a_larger_vocabulary_is_refused(finished: Finished) -> None:
    with pytest.raises(UserError, match=r"model\.base: has a vocabulary of 300, the store was tokenised with 4,096; "):
        build(ModelConfig(base=str(finished.outcome.model)), vocabulary=4096)
    small = ModelConfig(init="random", architecture=TINY.model_copy(update={"vocabulary": 200}))
    with pytest.raises(UserError, match="has a vocabulary of 200"):
        build(small)


def test_an_untold_vocabulary_is_asked_for() -> None:
    with pytest.raises(UserError, match=r"model\.architecture\.vocabulary"):
        model_shape(RANDOM)


def test_the_shape_of_a_folder_is_that_of_its_model(finished: Finished) -> None:
    shape, vocabulary = model_shape(ModelConfig(base=str(finished.outcome.model)))
    assert vocabulary == 300
    assert parameter_count(shape, vocabulary) == parameter_count(TINY, 300)


@pytest.mark.parametrize(
    ("base", "problem"),
    [
        ("{tmp}/none", "there is no folder"),
        ("../none", "there is no folder"),
        ("none", "there is no folder"),
        ("{tmp}/empty", "has no config.json"),
        ("{tmp}/noweights", "cannot be loaded"),
        ("{tmp}/broken", "cannot be loaded"),
    ],
)
def test_a_base_that_cannot_be_read_is_one_line(tmp_path: Path, finished: Finished, base: str, problem: str) -> None:
    for name in ("empty", "noweights", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "noweights" / "config.json").write_bytes((finished.outcome.model / "config.json").read_bytes())
    (tmp_path / "broken" / "config.json").write_text("{")
    with pytest.raises(UserError, match=problem) as caught:
        build(ModelConfig(base=base.format(tmp=tmp_path)))
    assert caught.value.field == "model.base"
    assert "\n" not in str(caught.value)


def test_pickled_weights_are_never_read(tmp_path: Path, finished: Finished) -> None:
    (tmp_path / "config.json").write_bytes((finished.outcome.model / "config.json").read_bytes())
    torch.save(build().state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="cannot be loaded"):
        build(ModelConfig(base=str(tmp_path)))


def test_code_beside_a_model_is_never_run(tmp_path: Path, finished: Finished) -> None:
    config = json.loads((finished.outcome.model / "config.json").read_text())
    config |= {"model_type": "strange", "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    with pytest.raises(UserError, match="cannot be loaded"):
        build(ModelConfig(base=str(tmp_path)))
    assert not (tmp_path / "ran").exists()


def test_loss_is_the_mean_over_next_tokens() -> None:
    model, tokens = build().eval(), torch.randint(0, 300, (3, 16))
    logits = model(input_ids=tokens).logits
    expected = functional.cross_entropy(logits[:, :-1].reshape(-1, 300), tokens[:, 1:].reshape(-1))
    assert causal_loss(model, tokens).item() == pytest.approx(expected.item(), rel=1e-6)
    each = causal_loss(model, tokens, reduction="none").view(3, 16)
    assert each[:, -1].tolist() == [0.0] * 3
    assert each.sum().item() / 45 == pytest.approx(expected.item(), rel=1e-6)


def test_without_targets_the_loss_is_bitwise_the_plain_mean() -> None:
    model, rows = build().eval(), Rows(torch.randint(0, 300, (3, 16)))
    labels = torch.cat([rows.tokens[:, 1:], torch.full((3, 1), -100)], dim=1)
    logits = model(input_ids=rows.tokens).logits
    expected = functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=-100)
    assert torch.equal(training_loss(model, rows, None), expected)
    assert torch.equal(causal_loss(model, rows.tokens), expected)


def test_what_is_no_target_carries_no_loss() -> None:
    model, tokens = build().eval(), torch.randint(0, 300, (3, 16))
    targets = torch.zeros(3, 16, dtype=torch.bool)
    targets[0, 0] = targets[1, 5] = targets[2, 15] = True  # the first has nothing before it
    each = causal_loss(model, tokens, "none").view(3, 16)
    masked = causal_loss(model, tokens, "none", targets=targets).view(3, 16)
    assert masked.nonzero().tolist() == [[1, 4], [2, 14]]
    assert masked.sum().item() == pytest.approx((each[1, 4] + each[2, 14]).item(), rel=1e-6)
    total = causal_loss(model, tokens, "sum", targets=targets)
    assert training_loss(model, Rows(tokens, targets), 0.25).item() == pytest.approx(total.item() / 4, rel=1e-6)


def test_targets_leave_the_tokens_as_they_are() -> None:
    tokens = torch.randint(0, 300, (2, 16))
    before = tokens.clone()
    causal_loss(build(), tokens, targets=torch.zeros(2, 16, dtype=torch.bool), reduction="sum")
    assert torch.equal(tokens, before)


def test_no_target_at_all_is_no_loss_and_no_gradient() -> None:
    model, tokens = build(), torch.randint(0, 300, (2, 16))
    loss = training_loss(model, Rows(tokens, torch.zeros(2, 16, dtype=torch.bool)), 0.0)
    loss.backward()
    assert loss.item() == 0.0
    assert all((parameter.grad == 0).all() for parameter in model.parameters())


PACKED = [[3, 9, 4], [16], [1, 2, 13]]  # lengths of the documents in each row


def packed() -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and positions of ``PACKED``."""
    torch.manual_seed(1)
    positions = [torch.cat([torch.arange(length) for length in row]) for row in PACKED]
    return torch.randint(0, 300, (3, 16)), torch.stack(positions)


def documents_of(tokens: torch.Tensor) -> list[torch.Tensor]:
    return [part for row, lengths in zip(tokens, PACKED, strict=False) for part in row.split(lengths)]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("rows", [slice(0, 1), slice(0, 3)])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_packed_document_is_read_as_if_alone(attention: str, rows: slice, checkpointing: bool) -> None:
    model = build(checkpointing=checkpointing).train(checkpointing)
    model.set_attn_implementation(attention)
    tokens, positions = packed()
    apart = _logits(model, tokens[rows], positions[rows]).flatten(0, 1)
    together = _logits(model, tokens[rows], None).flatten(0, 1)
    alone = [model(input_ids=ids[None]).logits[0] for ids in documents_of(tokens[rows])]
    assert torch.allclose(apart, torch.cat(alone), atol=1e-5)
    # Without it only the first document of each row is read so.
    first = len(alone[0])
    assert torch.allclose(together[:first], alone[0], atol=1e-5)
    assert not torch.allclose(together[first : first + len(alone[1])], alone[1], atol=1e-3)


def test_a_cache_does_not_switch_the_masking_off() -> None:
    """transformers tells documents apart only without a cache, which a base may ask for in its configuration."""
    model, (tokens, positions) = build().eval(), packed()
    expected = _logits(model, tokens, positions)
    model.config.use_cache = True
    assert torch.equal(_logits(model, tokens, positions), expected)
    assert not torch.allclose(model(input_ids=tokens, position_ids=positions).logits, expected, atol=1e-3)


def test_flash_attention_gets_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks at positions in a batch of one row only; the joined row gives the same losses."""
    model, (tokens, positions) = build().eval(), packed()
    expected = causal_loss(model, tokens, "none", positions=positions)
    shapes: list[tuple[int, ...]] = []
    model.register_forward_pre_hook(
        lambda _, __, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    monkeypatch.setattr("training.model._attention", lambda _: "flash_attention_2")
    found = causal_loss(model, tokens, "none", positions=positions)
    assert shapes == [(1, 48)]
    assert torch.allclose(found, expected, atol=1e-5)


def test_the_attention_is_that_of_the_wrapped_model() -> None:
    class Wrapped:
        config = "DeepSpeed's own"
        module = build()

    assert _attention(Wrapped()) == _attention(build()) == "sdpa"


def test_recomputing_activations_gives_the_same_gradients() -> None:
    tokens = torch.randint(0, 300, (2, 16))
    gradients = []
    for checkpointing in (False, True):
        model = build(checkpointing=checkpointing).train()
        causal_loss(model, tokens).backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    "wrong", [{"init": "random"}, {}, {"base": "x", "init": "nothing"}, {"base": "x", "trust_remote_code": True}]
)
def test_incomplete_sections_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="ModelConfig"):
        ModelConfig.model_validate(wrong)


def test_an_architecture_needs_its_sizes() -> None:
    with pytest.raises(ValueError, match="hidden_size"):
        Architecture.model_validate({"layers": 1, "heads": 1, "intermediate_size": 8})
