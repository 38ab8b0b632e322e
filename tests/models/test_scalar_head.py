"""The scalar head against slow loops, and saved and loaded again."""

from contextlib import contextmanager
from pathlib import Path

import pytest
from tests_support import model_config

from rlreason.training.common import NOT_SPLIT
from rlreason.types import Problem, Rollout, Step

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
    from rlreason.models.loading import load_for_training
    from rlreason.models.scalar_head import new_scalar_head_model

    return new_scalar_head_model(load_for_training(EMBEDDED, MODEL, NOT_SPLIT), MODEL, True, None).eval()


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

    from rlreason.models.loading import load_for_training, load_model
    from rlreason.models.scalar_head import load_scalar_head_model, new_scalar_head_model

    torch.manual_seed(0)
    model = new_scalar_head_model(load_for_training(EMBEDDED, MODEL, NOT_SPLIT), MODEL, likelihood, None).eval()
    torch.nn.init.normal_(model.head.weight, std=0.1)
    model.save(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".bin", ".pt", ".pkl")]
    loaded = load_scalar_head_model(tmp_path, likelihood, load_model(tmp_path, "float32"))
    with torch.no_grad():
        assert torch.equal(loaded(*batch()).logits, model(*batch()).logits)


def test_a_tied_output_layer_is_saved_once(model):
    pointers = [tensor.data_ptr() for tensor in model.state_dict().values()]
    assert len(pointers) == len(set(pointers))


def test_lora_adapters_are_merged_on_saving(tmp_path):
    import dataclasses

    import torch

    from rlreason.models.loading import load_for_training, load_model
    from rlreason.models.scalar_head import load_scalar_head_model, new_scalar_head_model
    from rlreason.training.common import lora

    config = dataclasses.replace(MODEL, lora_rank=2)
    model = (
        new_scalar_head_model(load_for_training(EMBEDDED, config, NOT_SPLIT), config, True, lora(config, "CAUSAL_LM"))
        .float()
        .eval()
    )
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.02)
    with torch.no_grad():
        before = model(*batch()).logits
        model.save(tmp_path)
        after = load_scalar_head_model(tmp_path, True, load_model(tmp_path, "float32"))(*batch()).logits
    assert after.tolist() == [pytest.approx(row, abs=5e-2) for row in before.tolist()]


def test_only_the_last_hidden_states_are_computed_for_a_score(model):
    seen = []
    hook = model.language_model.base_model.register_forward_hook(lambda module, given, output: seen.append(output))
    model(*batch())
    hook.remove()
    (output,) = seen
    assert output.last_hidden_state is not None
    assert output.hidden_states is None and output.past_key_values is None


def test_beside_a_gpu_a_judge_is_read_once_and_kept_in_bfloat16(tmp_path, monkeypatch):
    """The GPU is a stand-in: what would go there stays where it is."""
    import torch

    from rlreason.models import loading, scalar_head
    from rlreason.orm.calibration import Calibration
    from rlreason.orm.model import Card, OutcomeModel

    new = scalar_head.new_scalar_head_model(
        loading.load_for_training(EMBEDDED, MODEL, NOT_SPLIT), MODEL, True, None
    ).eval()
    new.save(tmp_path)
    there, loaded, load = [], [], loading.load_model

    @contextmanager
    def on_gpu(model):
        there.append(model)
        yield model

    def counted(*given):
        loaded.append(load(*given))
        return loaded[-1]

    monkeypatch.setattr(loading, "load_model", counted)
    monkeypatch.setattr(loading, "on_gpu", on_gpu)
    monkeypatch.setattr(loading, "bfloat16_is_fast", lambda: True)
    judge = OutcomeModel(tmp_path, Card("", True, Calibration(1.0, 0.0, 0.5), ()), lambda: None)
    rollouts = [graded(prompt, completion) for prompt, completion in SEQUENCES]
    on_cpu = judge.logits(rollouts)
    assert len(loaded) == 1 and not there
    monkeypatch.setattr(loading, "trains_on_gpu", lambda: True)
    first, second = judge.logits(rollouts), judge.logits(rollouts)
    assert len(loaded) == 2 and [model.language_model for model in there] == [loaded[1]] * 2
    assert {weights.dtype for weights in loaded[1].parameters()} == {torch.bfloat16}
    assert there[0].head.weight.dtype == torch.float32
    assert first == second
    for ours, theirs in zip(first, on_cpu, strict=True):
        assert ours == pytest.approx(theirs, abs=0.3)


def graded(prompt, completion):
    steps = (Step(0, len(completion), "x", "answer"),)
    problem = Problem("a", "q", "1")
    return Rollout(problem, 0, 0, tuple(prompt), tuple(completion), (-1.0,) * len(completion), "x", "stop", steps)
