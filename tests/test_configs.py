"""Every shipped configuration composes and converts; bad values are refused in one sentence."""

from pathlib import Path

import pytest
from tests_support import composed

from rlreason.errors import UserError

CONF = Path(__file__).parent.parent / "conf"
GROUPS = sorted(path.name for path in CONF.iterdir() if path.is_dir())
CHOICES = [f"{group}={path.stem}" for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]


@pytest.mark.parametrize("choice", CHOICES)
def test_every_shipped_choice_composes(choice):
    extra = [f"{choice.split('=')[0]}.path=/some/folder"] if choice.endswith(("=local", "data=files")) else []
    extra += ["launcher.address=node0:29500"] if choice.endswith("2nodes") else []
    extra += ["reward.function=builtins:divmod"] if choice == "reward=custom" else []
    extra += ["task.rollouts=runs/NAME"] if choice == "task=try_reward" else []
    extra += ["task.run=runs/NAME"] if choice in ("task=repeat", "task=rescore") else []
    config = composed(choice, *extra)
    group, _, name = choice.partition("=")
    if group in ("task", "algo", "reward", "orm", "init", "data", "model"):
        assert getattr(config, group).name == name


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_has_a_description_for_help(choice):
    from rlreason.help import choices

    group, _, name = choice.partition("=")
    assert choices([CONF], group)[name].endswith(".")


def test_every_field_is_documented():
    from rlreason.config.base import describe
    from rlreason.config.compose import GROUPS, settings_of
    from rlreason.config.experiment import GeneralConfig

    schemas = {settings_of(group, {"name": path.stem}) for group in GROUPS for path in (CONF / group).glob("*.yaml")}
    for schema in (GeneralConfig, *schemas):
        assert all(meaning for _, _, meaning in describe(schema)), schema


def test_help_says_which_values_a_field_can_have():
    from rlreason.algorithms.ppo import PPOConfig
    from rlreason.config.base import describe

    shown = {field: allowed for field, allowed, _ in describe(PPOConfig)}
    assert shown["samples"] == "a whole number of at least 2"
    assert shown["clip"] == "a number above 0 and below 1"
    assert shown["critic"] == "one of shared, separate"
    assert shown["value_clip"] == "a number above 0, or null"
    assert shown["whiten"] == "true or false"


def test_a_changed_setting_is_checked_as_the_first_was():
    from dataclasses import replace

    with pytest.raises(UserError, match="replicas=0 must be a whole number of at least 1"):
        replace(composed().engine, replicas=0)


def test_the_prompt_follows_the_model_unless_it_is_chosen():
    assert composed("model=smollm2-135m-instruct").prompt.name == "boxed"
    assert composed("model=smollm2-135m-instruct", "prompt=plain").prompt.name == "plain"
    assert composed("model=smollm2-135m").prompt.name == "few_shot"


MODELS = sorted({path.stem for path in (CONF / "model").glob("*.yaml")} - {"local"})


@pytest.mark.parametrize("name", MODELS)
def test_a_preset_says_what_the_model_is(name):
    from rlreason.planning.shape import model_shape

    model = composed(f"model={name}").model
    page = (CONF.parent / "docs/models.md").read_text()
    assert f"`{name}`" in page or f"`{name.removesuffix('-instruct')}`" in page
    assert (model.kind == "embedded") == model.path.startswith("embedded:")
    assert (model.kind == "instruct") == (name.endswith("-instruct") or name == "qwen3-0.6b")
    assert model.licence is not None
    assert model.dtype == ("float32" if model.kind == "embedded" else "bfloat16")  # whatever its checkpoint is in
    assert model_shape(model).parameters == pytest.approx(model.parameters, rel=0.01)


def test_a_kind_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match=r"model.kind='chat' must be one of base, instruct, embedded"):
        composed("model=tiny", "model.kind=chat")


ADAPTERS = "model.lora_rank=16"
ROOM = {  # hardware: whether all weights of 7B fit besides adapters
    "gpu80x1": [(ADAPTERS,)],
    "gpu80x8": [(), (ADAPTERS,)],
    "gpu80x8-2nodes": [("launcher.address=node0:29500",), ("launcher.address=node0:29500", ADAPTERS)],
}


@pytest.mark.parametrize("model", ["llama7b", "llama13b"])
@pytest.mark.parametrize("algorithm", ["sft", "ei", "rcrl", "orm", "ppo", "grpo"])
@pytest.mark.parametrize(("hardware", "extra"), [(name, extra) for name, kinds in ROOM.items() for extra in kinds])
def test_the_papers_sizes_train_on_every_hardware(hardware, extra, algorithm, model):
    config = composed(f"hardware={hardware}", f"model={model}", f"algo={algorithm}", "data=gsm8k", "init=sft", *extra)
    processes = config.nproc * config.launcher.nodes
    assert processes == {"gpu80x1": 1, "gpu80x8": 8, "gpu80x8-2nodes": 16}[hardware]
    assert config.engine.replicas * config.engine.tensor_parallel_size == processes
    assert (config.launcher.name, config.sharding.name) == (
        ("accelerate", "fsdp2") if processes > 1 else ("single", "none")
    )
    for update in (config.algo, config.init, config.orm):
        size = getattr(update, "minibatch_size", None) or getattr(update, "batch_size", None)
        if size is not None:
            assert size % (processes * update.micro_batch_size) == 0
    # float32 weights, gradients and two moments, split over the processes; adapters are small.
    held = (2 if ADAPTERS in extra else 16 / processes) * config.model.parameters
    assert held < 0.5 * 80e9  # the rest is for activations


@pytest.mark.parametrize("experiment", ["paper-ei-7b", "paper-ei-13b", "paper-ppo-7b"])
@pytest.mark.parametrize("hardware", ROOM)
def test_the_papers_experiments_combine_with_hardware(experiment, hardware):
    extra = ["launcher.address=node0:29500"] if hardware.endswith("2nodes") else []
    config = composed(f"experiment={experiment}", f"hardware={hardware}", *extra)
    size = getattr(config.algo, "minibatch_size", None) or config.algo.batch_size
    assert size % (config.nproc * config.launcher.nodes * config.algo.micro_batch_size) == 0


def test_single_choices_win_over_the_hardware():
    config = composed("hardware=gpu80x8", "sharding=none", "nproc=4", "engine.replicas=4", "model.micro_batch_size=2")
    assert (config.sharding.name, config.nproc, config.engine.replicas) == ("none", 4, 4)
    assert config.algo.micro_batch_size == 2


@pytest.mark.parametrize("model", ["llama7b", "llama13b", "qwen2.5-0.5b"])
def test_adapters_learn_ten_times_as_fast(model):
    whole, adapters = composed(f"model={model}"), composed(f"model={model}", ADAPTERS)
    for rate in ("learning_rate", "orm_learning_rate", "rl_learning_rate"):
        assert getattr(adapters.model, rate) == pytest.approx(10 * getattr(whole.model, rate))
    assert adapters.algo.learning_rate == adapters.model.learning_rate == 2e-4
    assert composed(f"model={model}", ADAPTERS, "model.learning_rate=1e-3").algo.learning_rate == 1e-3


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["algo.samples=0"], "algo.samples=0 must be a whole number of at least 1 (K, "),
        (["algo.rounds=many"], "algo.rounds='many' must be a whole number of at least 1 (largest number of rounds)"),
        (["algo.samples=1.5"], "algo.samples=1.5 must be a whole number"),
        (["algo.samples=true"], "algo.samples=True must be a whole number"),
        (["algo.learning_rate=true"], "algo.learning_rate=True must be a number"),
        (["algo.samples=null"], "algo.samples=null must be a whole number"),
        (["algo.aggregate=maybe"], "algo.aggregate='maybe' must be true or false"),
        (["algo.threshold=high"], "algo.threshold='high' must be a number, or null"),
        (["nproc=two"], "nproc='two' must be a whole number of at least 1"),
        (["runs_dir=null"], "runs_dir=null must be text"),
        (["engine.devices=[a]"], "engine.devices=['a'] must be a list of whole numbers, or null"),
        (["algo.temperature=0"], "algo.temperature=0.0 must be a number above 0 ("),
        (["algo.micro_batch_size=7"], "micro_batch_size=7 must divide batch_size=64"),
        (["algo.restart=here"], "base, init, policy"),
        (["eval.k=-1"], "eval.k=-1"),
        (["eval.k=4", "eval.k_between=8"], "k_between=8"),
        (["eval.split=ood", "data=gsm8k"], "eval.split=ood"),
        (["algo.questions=2000"], "data.train_size=1500"),
        (["data=svamp", "init=sft"], "init=sft needs worked solutions"),
        (["data.path=/x"], "generated"),
        (["model=local"], "model.path is empty"),
        (["orm=local"], "orm.path is missing; give text, or null (folder of a trained ORM"),
        (["orm.label=guess"], "outcome, rollout"),
        (["reward=dense", "reward.weight=1.5"], "reward.weight=1.5 must be below 1"),
        (["reward=dense", "reward.weight=0"], "reward.weight=0"),
        (["reward=orm", "reward.at=start"], "end, steps"),
        (["eval.rerank=mean"], "final, product, minimum"),
        (["task=evaluate", "eval.orm=train"], "eval.orm=FOLDER"),
        (["algo=rcrl", "algo.good_tag=x", "algo.bad_tag=x"], "two different texts"),
        (["algo=rcrl", "algo.per=word"], "step, solution"),
        (["algo=sft", "algo.evaluations=0"], "algo.evaluations=0"),
        (["algo.keep=best"], "return, correct, both"),
        (["seed=-1"], "seed=-1"),
        (["+algo.sample=3"], "algo.sample is unknown; choose from: learning_rate, "),
        (["+extra=3"], "extra is unknown"),
        (["prompt.template=hello"], "question"),
        (["engine.memory_share=2"], "memory_share"),
        (["engine.devices=[0,0]", "engine.replicas=2"], "must name 2 different GPUs"),
        (["engine.executor=pipes"], "auto, mp, ray"),
        (["launcher.nodes=2"], "launcher.address=HOST:PORT"),
        (["launcher.nodes=2", "launcher.address=here"], "HOST:PORT"),
        (["launcher.nodes=2", "launcher.node_rank=2"], "from 0 to launcher.nodes - 1 = 1"),
        (["sharding.cpu_offload=true"], "needs sharding=fsdp2"),
        (["sharding.name=zero3"], "none, fsdp2"),
        (["nproc=0"], "nproc=0"),
        (["gpus=-1"], "gpus=-1"),
        (["task=export", "task.precision=int8"], "auto, float32, bfloat16"),
        (["task=export", "task.precision=bfloat16", "task.adapter=true"], "an adapter is written as it was trained"),
        (["task=export", "task.checkpoint=../x"], "name of a checkpoint"),
        (["gpu_memory=0"], "gpu_memory=0"),
    ],
)
def test_what_cannot_work_is_refused(overrides, words):
    with pytest.raises(UserError) as refusal:
        composed(*overrides)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)
