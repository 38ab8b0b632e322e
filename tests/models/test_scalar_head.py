"""The scalar head against slow loops, and saved and loaded again."""

from pathlib import Path

import pytest
from tests_support import model_config

EMBEDDED = Path(__file__).parents[2] / "rlreason/models/weights/tiny"
MODEL = model_config(name="tiny", path=str(EMBEDDED))
SEQUENCES = [([5, 9, 30, 40], [21, 22, 23, 7, 8]), ([11], [33, 44]), ([2, 3], [60, 61, 62, 63])]


def batch():
    import torch
    from torch.nn.utils.rnn import pad_sequence

    rows = [torch.tensor(prompt + completion) for prompt, completion in SEQUENCES]
    return pad_sequence(rows, batch_first=True), torch.tensor([len(prompt) for prompt, _ in SEQUENCES])


@pytest.fixture(scope="module")
def model():
    from rlreason.models.scalar_head import new_scalar_head_model

    return new_scalar_head_model(EMBEDDED, MODEL, True, None).eval()


def reference_logprobs(model, ids):
    """log p of each token after the first, from a forward pass of every prefix alone, in float64."""
    import torch

    found = [0.0]
    for end in range(1, len(ids)):
        logits = model.language_model(torch.tensor([ids[:end]])).logits[0, -1].double()
        found.append(logits.log_softmax(-1)[ids[end]].item())
    return found


def test_log_probabilities_and_features_equal_a_loop_over_prefixes(model):
    import torch

    from rlreason.models.scalar_head import LIKELIHOOD_WEIGHTS

    with torch.no_grad():
        output = model(*batch())
        for row, (prompt, completion) in enumerate(SEQUENCES):
            logprobs = reference_logprobs(model, prompt + completion)
            for position in range(len(prompt), len(prompt + completion)):
                assert output.logprobs[row, position].item() == pytest.approx(logprobs[position], abs=2e-4)
                seen = [max(value, -10.0) for value in logprobs[len(prompt) : position + 1]]
                # A new head is the likelihood baseline.
                expected = LIKELIHOOD_WEIGHTS[0] * sum(seen) / len(seen) + LIKELIHOOD_WEIGHTS[1] * min(seen)
                assert output.logits[row, position].item() == pytest.approx(expected, abs=1e-3)
            assert (output.logprobs[row, : len(prompt)] == 0).all()


def test_padding_and_company_change_nothing(model):
    import torch

    ids, starts = batch()
    with torch.no_grad():
        together = model(ids, starts).logits
        for row, (prompt, completion) in enumerate(SEQUENCES):
            alone = model(torch.tensor([prompt + completion]), starts[row : row + 1]).logits[0]
            assert together[row, : len(alone)].tolist() == pytest.approx(alone.tolist(), abs=1e-4)


@pytest.mark.parametrize("likelihood", [True, False])
def test_saved_in_safetensors_and_loaded_again(tmp_path, likelihood):
    import torch

    from rlreason.models.scalar_head import load_scalar_head_model, new_scalar_head_model

    torch.manual_seed(0)
    model = new_scalar_head_model(EMBEDDED, MODEL, likelihood, None).eval()
    torch.nn.init.normal_(model.head.weight, std=0.1)
    model.save(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".bin", ".pt", ".pkl")]
    loaded = load_scalar_head_model(tmp_path, likelihood)
    with torch.no_grad():
        assert torch.equal(loaded(*batch()).logits, model(*batch()).logits)


def test_a_tied_output_layer_is_saved_once(model):
    pointers = [tensor.data_ptr() for tensor in model.state_dict().values()]
    assert len(pointers) == len(set(pointers))


def test_lora_adapters_are_merged_on_saving(tmp_path):
    import dataclasses

    import torch

    from rlreason.models.scalar_head import load_scalar_head_model, new_scalar_head_model
    from rlreason.training.common import lora

    config = dataclasses.replace(MODEL, lora_rank=2)
    model = new_scalar_head_model(EMBEDDED, config, True, lora(config, "CAUSAL_LM")).float().eval()
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.02)
    with torch.no_grad():
        before = model(*batch()).logits
        model.save(tmp_path)
        after = load_scalar_head_model(tmp_path, True)(*batch()).logits
    assert after.tolist() == [pytest.approx(row, abs=5e-2) for row in before.tolist()]
