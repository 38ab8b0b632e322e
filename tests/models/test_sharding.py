"""What is asked of the libraries is what their own classes accept, and two processes really split a model."""

import json

import pytest
import torch
from tests_support import composed

from rlreason.config.sections import ShardingConfig
from rlreason.errors import UserError
from rlreason.models.critic import SeparateCritic
from rlreason.models.loading import load_model
from rlreason.models.scalar_head import ScalarHeadModel, load_scalar_head_model
from rlreason.models.sharding import (
    assert_sharded,
    fsdp_config,
    sharding_arguments,
    whole,
)
from rlreason.planning.storage import RESUMABLE, RESUMABLE_SPLIT

NONE, FSDP2 = (ShardingConfig(name=name, cpu_offload=False) for name in ("none", "fsdp2"))
LLAMA_2 = {  # as published: width, layers, heads, width of the feed-forward layers, parameters
    "7b": (4096, 32, 32, 11008, 6_738_415_616),
    "13b": (5120, 40, 40, 13824, 13_015_864_320),
}


def llama_2(size):
    """A Llama 2 without its weights."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    width, layers, heads, inner, _ = LLAMA_2[size]
    config = LlamaConfig(
        vocab_size=32000,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        max_position_embeddings=4096,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
    )
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def count(model):
    return sum(weights.numel() for weights in model.parameters())


def units(plugin, model):
    """The layers that accelerate would split by themselves."""
    from accelerate.utils.fsdp_utils import fsdp2_prepare_auto_wrap_policy

    plugin.set_auto_wrap_policy(model)
    policy = fsdp2_prepare_auto_wrap_policy(plugin, model)
    return [module for module in model.modules() if policy(module)]


@pytest.fixture
def two_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")


def plugin(tmp_path, config, **more):
    """accelerate's plugin as transformers makes it from our arguments."""
    from accelerate.utils import FullyShardedDataParallelPlugin
    from transformers import TrainingArguments

    fsdp = {"fsdp": True, "fsdp_config": fsdp_config(config)}
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, **fsdp, **more)
    return FullyShardedDataParallelPlugin(**arguments.fsdp_plugin_args)


def test_without_sharding_nothing_is_asked_for():
    assert sharding_arguments(NONE) == {}


@pytest.mark.parametrize("offload", [False, True])
def test_fsdp2_is_what_accelerate_and_transformers_accept(tmp_path, offload):
    from torch.distributed.fsdp import CPUOffloadPolicy, OffloadPolicy
    from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

    made = plugin(tmp_path, ShardingConfig(name="fsdp2", cpu_offload=offload), bf16=True)
    assert made.fsdp_version == 2
    assert made.reshard_after_forward is True
    assert made.auto_wrap_policy is transformer_auto_wrap_policy
    assert "FULL_STATE_DICT" in str(made.state_dict_type)
    assert not made.activation_checkpointing
    assert isinstance(made.cpu_offload, CPUOffloadPolicy if offload else (type(None), OffloadPolicy))
    assert isinstance(made.cpu_offload, CPUOffloadPolicy) == offload


def test_fsdp2_needs_something_to_split_over(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(UserError, match="sharding=fsdp2 splits the model over processes and there is one"):
        sharding_arguments(FSDP2)


def test_fsdp2_arguments(two_processes):
    arguments = sharding_arguments(FSDP2)
    assert arguments["fsdp"] is True and arguments["fsdp_config"] == fsdp_config(FSDP2)


@pytest.mark.parametrize("size", LLAMA_2)
def test_every_decoder_layer_of_llama_2_is_a_unit(tmp_path, size):
    width, layers, _, _, parameters = LLAMA_2[size]
    made = plugin(tmp_path, FSDP2)
    policy = llama_2(size)
    assert count(policy) == parameters
    assert len(units(made, policy)) == layers
    judge = ScalarHeadModel(policy, likelihood=True)
    assert len(units(made, judge)) == layers
    assert count(judge) == parameters + (width + 2) + 1
    critic = SeparateCritic(ScalarHeadModel(policy, likelihood=False), probability=False)
    assert len(units(made, critic)) == layers
    assert count(critic) == parameters + width + 1
    assert all(weights.is_meta for weights in policy.parameters())


@pytest.mark.parametrize("model", ["llama7b", "llama13b"])
@pytest.mark.parametrize("sharding", ["none", "fsdp2"])
def test_presets_compose(model, sharding):
    config = composed(f"model={model}", f"sharding={sharding}", "launcher=accelerate", "nproc=8", "data=gsm8k")
    assert config.sharding.name == sharding


def test_a_model_that_is_not_split_is_never_called_sharded():
    with pytest.raises(RuntimeError, match="sharding=fsdp2 was asked for, and the model is a Linear"):
        assert_sharded(torch.nn.Linear(2, 2), FSDP2)
    assert_sharded(torch.nn.Linear(2, 2), NONE)


def test_a_model_in_one_piece_stays_what_it_is():
    model = torch.nn.Linear(2, 2)
    assert whole(model) is model


@pytest.fixture(scope="module")
def trained(rlreason, tmp_path_factory):
    """The same training in one process and in two, and what each says of itself."""
    folder = tmp_path_factory.mktemp("sharded")
    for number, (name, sharding) in enumerate([("one", "none"), ("two", "fsdp2")], 1):
        (folder / name).mkdir()
        arguments = ("sharded_training:one_of_several", str(folder / name), sharding)
        rlreason.in_processes(number, folder / name, *arguments).check()
    read = {path.parent.name + path.stem[-1]: json.loads(path.read_text()) for path in folder.glob("*/found-*.json")}
    return folder, read["one0"], [read["two0"], read["two1"]]


@pytest.mark.engine
@pytest.mark.parametrize("what", ["policy", "resumed", "judge", "critic", "lora"])
def test_each_of_two_processes_holds_half(trained, what):
    _, one, two = trained
    assert not one[what]["fsdp"] and one[what]["held"] == one[what]["weights"]
    for found in (each[what] for each in two):
        assert found["fsdp"] and found["split"]
        assert found["units"].count("FSDPLlamaDecoderLayer") == 4
        assert found["held"] == pytest.approx(found["weights"] / 2, rel=1e-3)  # odd lengths leave one row more
    assert sum(each[what]["held"] for each in two) == one[what]["weights"] or what == "lora"


@pytest.mark.engine
def test_only_one_of_two_processes_reads_a_checkpoint_and_neither_holds_weights_before(trained):
    _, one, two = trained
    assert (one["reading"]["opened"], *(found["reading"]["opened"] for found in two)) == (1, 1, 0)
    for found in (each["reading"] for each in two):
        assert found["made"] < 0.1 * found["weights"]
        assert found["as stored"] and found["tied"]


@pytest.mark.engine
@pytest.mark.parametrize(("number", "bytes_each"), [("one", RESUMABLE), ("two", RESUMABLE_SPLIT)])
def test_a_resumable_checkpoint_has_as_many_bytes_a_weight_as_is_planned(trained, number, bytes_each):
    folder, one, _ = trained
    files = list((folder / number / "policy-scratch/checkpoint-2").glob("*"))
    written = sum(path.stat().st_size for path in files if path.suffix in (".safetensors", ".bin", ".pt"))
    # The model here is tied, and its one matrix, 7 % of the weights, is stored under a second name in places.
    assert written == pytest.approx(bytes_each * one["policy"]["weights"], rel=0.05)


@pytest.mark.engine
@pytest.mark.parametrize("what", ["judge", "critic"])
def test_gradients_are_split_between_the_forward_passes_of_a_step(trained, what):
    for found in (each[what] for each in trained[2]):
        assert found["split gradients"] == [True] * 4


@pytest.mark.engine
@pytest.mark.parametrize("what", ["policy", "resumed", "judge"])
def test_losses_and_gradient_norms_are_those_of_one_process(trained, what):
    _, one, (first, second) = trained
    assert first[what]["losses"] == second[what]["losses"]
    assert first[what]["losses"] == pytest.approx(one[what]["losses"], abs=1e-4)
    assert first[what]["norms"] == pytest.approx(one[what]["norms"], rel=1e-5)
    assert first[what]["losses"][-1] < first[what]["losses"][0]


@pytest.mark.engine
@pytest.mark.parametrize("what", ["critic", "lora"])
def test_weights_gathered_in_bfloat16_train_nearly_the_same(trained, what):
    _, one, (first, _) = trained
    assert first[what]["losses"] == pytest.approx(one[what]["losses"], rel=2e-3, abs=5e-3)


@pytest.mark.engine
def test_a_resumed_run_is_the_uninterrupted_one(trained):
    for found in (trained[1], *trained[2]):
        assert found["resumed"]["losses"] == pytest.approx(found["policy"]["losses"], abs=1e-6)


@pytest.mark.engine
@pytest.mark.parametrize("what", ["policy", "resumed", "merged", "snapshot"])
def test_saved_policies_load_into_plain_models(trained, what):
    from transformers import AutoModelForCausalLM

    folder, _, _ = trained
    ids = torch.arange(20, 50).unsqueeze(0)
    one, two = (
        AutoModelForCausalLM.from_pretrained(folder / number / what, dtype=torch.float32)(ids).logits
        for number in ("one", "two")
    )
    assert torch.allclose(one, two, atol=0.05 if what in ("merged", "snapshot") else 1e-3)


@pytest.mark.engine
@pytest.mark.parametrize("what", ["judge", "critic"])
def test_saved_judges_and_critics_load_into_plain_models(trained, what):
    folder, _, (first, _) = trained
    ids = torch.arange(20, 50).unsqueeze(0)
    one_model, two_model = (
        load_scalar_head_model(path, what == "judge", load_model(path, "float32"))
        for path in (folder / "one" / what, folder / "two" / what)
    )
    with torch.no_grad():
        logits = [model(ids, torch.tensor([4])).logits for model in (one_model, two_model)]
    assert torch.allclose(*logits, atol=0.5 if what == "critic" else 1e-3)  # the critic trained in bfloat16
    # what was written is what the processes held, gathered
    written = sum(float(weights.double().square().sum()) for weights in two_model.state_dict().values())
    assert written == pytest.approx(first[what]["norm"], rel=1e-9)
