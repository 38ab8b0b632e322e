"""Log-probs in pieces: the same values and gradients as in one, and never more logits at once than allowed."""

import pytest
import torch
from torch import nn

from rlreason.models import logprobs
from rlreason.models.logprobs import LOGITS_AT_ONCE, token_distributions, token_logprobs
from rlreason.models.scalar_head import ScalarHeadModel
from rlreason.planning.memory import logits_at_once

VOCABULARY = 50


class Head(nn.Linear):
    """An output layer that remembers how many logits it made at a time."""

    def forward(self, states):
        self.made = max(getattr(self, "made", 0), len(states) * self.out_features)
        return super().forward(states)


@pytest.mark.parametrize("rows", [1, 3, 7, 8])
@pytest.mark.parametrize("entropy_gradient", [False, True])
def test_pieces_give_the_values_and_gradients_of_the_whole(rows, entropy_gradient, monkeypatch):
    torch.manual_seed(0)
    head, given = Head(6, VOCABULARY), torch.randn(7, 6)
    tokens, weights = torch.randint(VOCABULARY, (7,)), torch.randn(7)

    def outcome():
        head.zero_grad()
        head.made = 0
        states = given.clone().requires_grad_()
        chosen, entropies = token_distributions(head, states, tokens, 0.7, entropy_gradient)
        alone = token_logprobs(head, states, tokens)
        ((chosen + alone) * weights + entropies * entropies).sum().backward()
        return [item.detach().clone() for item in (chosen, entropies, alone, states.grad, head.weight.grad)]

    whole = outcome()
    expected = (given @ head.weight.T + head.bias).log_softmax(-1)[torch.arange(7), tokens]
    assert torch.allclose(whole[2], expected, atol=1e-6)
    monkeypatch.setattr(logprobs, "LOGITS_AT_ONCE", rows * VOCABULARY)
    for found, wanted in zip(outcome(), whole, strict=True):
        assert torch.allclose(found, wanted, atol=1e-6)
    assert head.made <= rows * VOCABULARY


def test_no_tokens_have_no_logprobs():
    assert token_logprobs(Head(6, VOCABULARY), torch.zeros(0, 6), torch.zeros(0, dtype=torch.long)).shape == (0,)


def test_the_plan_counts_as_many_logits_as_are_made():
    assert logits_at_once(100, VOCABULARY) == 100 * VOCABULARY
    for vocabulary in (32_000, 151_936, 262_144, 10**9):
        assert logits_at_once(10**6, vocabulary) <= max(LOGITS_AT_ONCE, vocabulary)


def test_a_judge_reads_the_logprobs_that_its_language_model_gives(monkeypatch):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    language_model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **shape)).eval()
    ids, starts = torch.randint(VOCABULARY, (2, 9)), torch.tensor([3, 5])
    with torch.no_grad():
        expected = language_model(ids).logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
    monkeypatch.setattr(logprobs, "LOGITS_AT_ONCE", 2 * VOCABULARY)
    found = ScalarHeadModel(language_model, likelihood=True)(ids, starts).logprobs
    for row, start in enumerate(starts):
        assert torch.allclose(found[row, start:], expected[row, start - 1 :], atol=1e-5)
        assert not found[row, :start].any()
