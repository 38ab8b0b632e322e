"""The probe of a checkpoint in half precision is that of float32 arithmetic, without a copy of its weights."""

import pytest

from rlreason.models.probe import in_float32, sequence_logprobs


@pytest.mark.parametrize("tied", [False, True])
def test_half_precision_weights_are_computed_with_as_if_in_float32(tied):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=64, tie_word_embeddings=tied, **shape)).to(torch.bfloat16)
    places = [weights.data_ptr() for weights in model.parameters()]
    ids = list(range(40))
    rounded = sequence_logprobs(model, ids)
    with in_float32(model):
        found = sequence_logprobs(model, ids)
    assert [weights.data_ptr() for weights in model.parameters()] == places
    assert {weights.dtype for weights in model.parameters()} == {torch.bfloat16}
    assert sequence_logprobs(model, ids) == rounded != found
    assert sequence_logprobs(model.float(), ids) == pytest.approx(found, abs=1e-6)
