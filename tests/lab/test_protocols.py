"""Which prompt a run asks with: chosen by the kind of model, said, measured beside another, or refused in a line."""

import io
import json
import shutil
from dataclasses import asdict, replace

import pytest
from rich.console import Console
from small_models import coin_questions
from tests_support import composed

from rlreason.config.compose import with_protocols
from rlreason.config.sections import AutoPromptConfig
from rlreason.display import Display
from rlreason.errors import UserError
from rlreason.help import suggest
from rlreason.lab.setup import what_is_asked
from rlreason.models.resolve import EMBEDDED_FOLDER

TEMPLATE = (
    "{% for message in messages %}[{{ message.role }}]{{ message.content }}<|endoftext|>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
GENERAL = ["tracker=none", "model=local", "data=files", "data.max_prompt_tokens=256", "data.max_completion_tokens=24"]


@pytest.fixture
def model(tmp_path):
    """A folder with a base model."""
    shutil.copytree(EMBEDDED_FOLDER / "tiny", tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def data(tmp_path):
    return coin_questions(tmp_path / "data")


def asked(model, data, *overrides):
    shown = io.StringIO()
    config = composed(*GENERAL, f"model.path={model}", f"data.path={data}", *overrides)
    return what_is_asked(config, Display(Console(file=shown, width=300))), shown.getvalue()


def answering(model):
    (model / "chat_template.jinja").write_text(TEMPLATE)
    return model


def first_prompt(found):
    return found.prompts[found.splits.measured[0].id].text


def test_a_base_model_sees_solved_examples_and_an_instruct_model_is_asked_for_a_box(model, data):
    found, _ = asked(model, data)
    assert found.config.prompt == composed("prompt=few_shot").prompt
    assert first_prompt(found).count("#### ") == 4
    found, _ = asked(answering(model), data)
    assert found.config.prompt == composed("prompt=boxed").prompt
    assert "put your final answer within \\boxed{}." in first_prompt(found)
    assert not found.second_prompts


def test_a_chat_prompt_that_the_model_cannot_have_is_one_line(model, data):
    for prompt in ("chat", "boxed", "verl"):
        with pytest.raises(UserError, match=rf"^prompt={prompt}: the tokeniser of this model has no chat template"):
            asked(model, data, f"prompt={prompt}")
    with pytest.raises(UserError, match=r"^eval\.second_prompt: prompt=verl: the tokeniser"):
        asked(model, data, "eval.second_prompt=verl")
    with pytest.raises(UserError, match=r"^eval\.second_prompt=few_shot is the prompt of the run"):
        asked(model, data, "eval.second_prompt=few_shot")


def test_the_best_prompt_of_the_kind_is_measured_beside_another_one(model, data):
    found, _ = asked(model, data, "prompt=plain")
    assert found.config.eval.second.name == "few_shot"
    assert len(found.second_prompts) == len(found.splits.measured) > 0
    found, _ = asked(model, data, "prompt=plain", "eval.second_prompt=null")
    assert not found.second_prompts
    found, _ = asked(model, data, "prompt=few_shot", "prompt.examples=2")
    assert found.config.eval.second is None, "a prompt of that name is measured already"
    found, _ = asked(answering(model), data, "prompt=chat")
    assert found.config.eval.second.name == "boxed"


def test_what_nobody_has_asked_for_and_cannot_be_measured_is_said_and_left_out(model, tmp_path):
    data = tmp_path / "bare"
    data.mkdir()
    for split in ("train", "validation", "test"):
        rows = [{"question": f"{split} {number}?", "answer": str(number)} for number in range(8)]
        (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, shown = asked(model, data, "prompt=plain")
    assert found.config.eval.second is None and not found.second_prompts
    assert "nothing is measured under prompt=few_shot beside: prompt.examples=4 needs" in shown
    with pytest.raises(UserError, match=r"^prompt\.examples=4 needs training questions .*; use prompt=plain or"):
        asked(model, data)


def test_a_policy_of_a_run_is_asked_as_it_was_trained(model, data):
    run = model.parent / "run"
    policy = shutil.copytree(model, run / "checkpoints/round-1")
    trained = asdict(composed("prompt=few_shot", "prompt.examples=2").prompt)
    (run / "result.json").write_text(json.dumps({"config": {}, "prompt": trained}))
    found, _ = asked(policy, data)
    assert asdict(found.config.prompt) == trained
    assert asked(policy, data, "prompt=plain")[0].config.prompt.name == "plain"
    old = {name: trained[name] for name in ("name", "template", "chat", "examples", "stop")}
    (run / "result.json").write_text(json.dumps({"config": {"prompt": old}}))
    assert asdict(asked(policy, data)[0].config.prompt) == trained


def test_a_choice_by_kind_is_one_of_prompts():
    auto = composed("model=local", "model.path=x").prompt
    assert isinstance(auto, AutoPromptConfig)
    assert {kind: auto.of(kind).name for kind in ("instruct", "base", "embedded")} == {
        "instruct": "boxed",
        "base": "few_shot",
        "embedded": "plain",
    }
    assert composed("model=local", "model.path=x", "model.kind=instruct", "prompt.instruct=verl").prompt.name == "verl"
    for value, message in (("nonsense", "nonsense is no choice of prompt"), ("{name: x}", "base.system is missing")):
        with pytest.raises(UserError, match=message):
            composed("model=local", "model.path=x", f"prompt.base={value}")
    known = with_protocols(composed("model=local", "model.path=x"), "base")
    assert known.protocol.name == "few_shot"
    assert replace(known, prompt=auto) == composed("model=local", "model.path=x")


def test_a_single_value_of_a_prompt_that_nobody_has_named_is_one_line():
    message = suggest(Exception("Could not override 'prompt.stop'."), [])
    assert (
        message
        == "prompt.stop is no setting of prompt=auto, which chooses another; name that too, such as prompt=boxed"
    )
