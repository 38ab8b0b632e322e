"""`eval.second_prompt` names a prompt, becomes its section, and is refused in one line where it cannot be used."""

import pytest
from tests_support import composed

from rlreason.config.compose import from_plain
from rlreason.data.prompts import build_prompts
from rlreason.errors import UserError
from rlreason.planning.workload import workload
from rlreason.study.commands import hydra_value
from rlreason.types import Problem


class Words:
    """A tokeniser without a chat template."""

    chat_template = None

    def __call__(self, texts, **_):
        return {"input_ids": [text.split() for text in texts]}


def test_a_name_becomes_the_section_that_it_names():
    second = composed("eval.second_prompt=few_shot").eval.second
    assert second == composed("prompt=few_shot").prompt
    assert composed().eval.second is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["eval.second_prompt=nonsense"], "nonsense is no choice of prompt; choose from: auto, boxed, chat, few_shot"),
        (["eval.second_prompt=plain"], "is the prompt of the run"),
        (["eval.second_prompt=few_shot", "prompt=few_shot"], "is the prompt of the run"),
        (["eval.second_prompt=few_shot", "task=evaluate"], "give the prompt itself: prompt=NAME"),
        (["eval.second_prompt=[few_shot]"], "must be the name of a choice of prompt"),
        (["eval.second_prompt={name: mine}"], "system is missing"),
    ],
)
def test_what_cannot_be_a_second_prompt_is_refused(overrides, message):
    with pytest.raises(UserError, match=r"^eval\.second_prompt") as refused:
        composed(*overrides)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_list_is_no_mapping_in_other_sections_either():
    with pytest.raises(UserError, match=r"^model\.shape=\[1\] must be a mapping, or null"):
        composed("model.shape=[1]")


def test_a_chat_prompt_needs_a_tokeniser_with_a_template():
    second = composed("eval.second_prompt=chat").eval.second
    with pytest.raises(UserError, match="has no chat template"):
        build_prompts([Problem("a", "1+1?", "2")], [], second, Words(), 0, 100)


def test_it_is_planned_as_two_more_answers_of_every_question():
    without, there = (workload(composed(*more))[-1].samples for more in ([], ["eval.second_prompt=few_shot"]))
    assert there - without == 2 * 400


def test_a_section_is_spelled_by_its_name_on_a_command_line():
    assert hydra_value({"name": "few_shot", "template": "{{ question }}"}) == "few_shot"


def test_what_a_run_stored_is_read_again_without_a_command_at_work():
    from hydra import compose, initialize_config_dir
    from tests_support import CONF

    from rlreason.config.compose import plain_values

    with initialize_config_dir(str(CONF), version_base="1.3"):
        plain = plain_values(compose("config", overrides=["eval.second_prompt=few_shot"]))
    assert plain["eval"]["second_prompt"]["examples"] == 4
    assert from_plain(plain).eval.second.name == "few_shot"
