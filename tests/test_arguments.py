"""What is typed on the command line arrives as it was typed; what could be meant in several ways is refused."""

import json
import os
import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from tests_support import CONF, composed, hydra_section

from rlreason.arguments import as_typed, quoted
from rlreason.config.texts import LATEX, home_expanded, with_line_breaks
from rlreason.errors import UserError
from rlreason.help import suggest
from rlreason.jobs import run_folder

PARSER = OverridesParser.create()


def read(*arguments):
    return list(as_typed(arguments, [CONF]).arguments)


def arrived(override):
    """The value that Hydra and OmegaConf make of an override."""
    value = PARSER.parse_override(override).value()
    return OmegaConf.to_container(OmegaConf.create({"value": value}), resolve=True)["value"]


TEXTS = st.text(st.one_of(st.sampled_from("/ab ,='\"()[]{}\\$:;~#&|<>!?*%@1e.-+\t\né"), st.characters(codec="utf-8")))


@settings(deadline=None)
@given(TEXTS)
def test_any_text_as_a_path_arrives_unchanged(text):
    path = f"/data/{text}"
    assume("${" not in path and "\\" not in path)
    line = as_typed([f"data.path={path}"], [CONF])
    assert arrived(line.arguments[0]) == path
    assert bool(line.notes) == (line.arguments[0] != f"data.path={path}")
    again = as_typed(line.arguments, [CONF])
    assert (again.arguments, again.notes) == (line.arguments, ())


@settings(deadline=None)
@given(TEXTS)
def test_any_template_arrives_unchanged_backslashes_included(text):
    template = f"Question: {{{{ question }}}}{text}"
    assume("${" not in template)
    assert arrived(read(f"prompt.template={template}")[0]) == template


@settings(deadline=None)
@given(TEXTS)
def test_any_text_in_quotes_is_that_text(text):
    assume(text != "???" and r"\${" not in text)  # OmegaConf's own words for what is missing and what is escaped
    value = quoted(text)
    assume("${" not in text or r"\${" in value)  # an interpolation
    assert arrived(f"name={value}") == text


def is_plain(text):
    return text.strip(" \t") == text != "" and not set(text) & set(",'\"([{}])$") and not text.endswith("\\")


@settings(deadline=None)
@given(st.lists(TEXTS.filter(is_plain)))
def test_any_stop_texts_arrive_unchanged(texts):
    assert arrived(read(f"prompt.stop=[{','.join(texts)}]")[0]) == texts


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("data.path=/data/x=1", "/data/x=1"),
        ("data.path=/data/copy (1)", "/data/copy (1)"),
        ("data.path=/data/copy (1, 2)", "/data/copy (1, 2)"),
        ("data.path=/data/Größe", "/data/Größe"),
        ("data.path=/data/it's", "/data/it's"),
        ('data.path=/data/"x"', '/data/"x"'),
        ("data.path=/data/[old]", "/data/[old]"),
        ("data.path=[old]", "[old]"),
        ("data.path={a}", "{a}"),
        ("data.path=C:\\data#1&2;3", "C:\\data#1&2;3"),
        ("data.path=a,b", "a,b"),
        ("data.path= /x ", " /x "),
        ("data.path=/x${", "/x${"),
        ("name=1e3", "1e3"),
        ("name=1_000", "1_000"),
        ("name=.5", ".5"),
        ("name=08", "08"),
        ("name=inf", "inf"),
        ("name=TRUE", "TRUE"),
        ("name=null-ish", "null-ish"),
        ("model.path=0.10", "0.10"),
        ("prompt.template=\\( {{ question }} \\), please", "\\( {{ question }} \\), please"),
        ("prompt.stop=[</s>]", ["</s>"]),
        ("prompt.stop=[</s>, don't,'a,b']", ["</s>", "don't", "a,b"]),
        ("prompt.stop=[[/INST],<|im_end|>]", ["[/INST]", "<|im_end|>"]),
        ("prompt.stop=[1e3,null,true]", ["1e3", "null", "true"]),
        ("prompt.stop=[\\[, \\(]", ["\\[", "\\("]),
        ("+my.words=[</s>,2]", ["</s>", 2]),
        ("+my.path=/a=1", "/a=1"),
        ("hydra.sweep.dir=/a=1", "/a=1"),
        # what Hydra understands stays
        ("name=null", None),
        ('data.path="/a, b"', "/a, b"),
        ("data.path='/a b'", "/a b"),
        ("data.path=/a\\=b", "/a=b"),
        ("algo.samples=4", 4),
        ("engine.devices=[0,1]", [0, 1]),
        ("model.shape={a: 1}", {"a": 1}),
        ("data.path=", ""),
    ],
)
def test_a_setting_gets_what_was_typed(typed, value):
    (override,) = read(typed)
    assert arrived(override) == value
    assert read(override) == [override]
    if "," not in typed or typed.endswith(("]", ")")):
        assert read("-m", typed) == ["-m", override]


@pytest.mark.parametrize(
    "typed",
    [
        "seed=0,1",
        "name=a,b",
        "data.path='a,b',c",
        "algo.samples=choice(2,4)",
        "seed=range(0,3)",
        "algo=ei,sft",
        "~name",
    ],
)
def test_what_hydra_understands_stays_as_it_is(typed):
    assert read("-m", typed) == ["-m", typed]


def test_interpolations_stay():
    assert read("data.path=${runs_dir}/x") == ["data.path=${runs_dir}/x"]
    (override,) = read("data.path=${oc.env:HOME}/x=1")
    assert arrived(override) == f"{os.environ['HOME']}/x=1"


def test_every_value_of_a_sweep_is_what_was_typed():
    (_, override) = read("-m", "name=1e3,08, x y")
    assert [item.strip('"') for item in PARSER.parse_override(override).sweep_string_iterator()] == [
        "1e3",
        "08",
        r"x\ y",
    ]
    assert read("-m", "prompt.stop=[</s>],[x]") == ["-m", 'prompt.stop=["</s>"],[x]']
    assert read("name=x", "-m", "seed=0,1") == ["-m", "name=x", "seed=0,1"]


def test_the_line_shows_the_command_to_type():
    note = "read data.path=/data/x=1 as 'data.path=\"/data/x=1\"'"
    assert as_typed(["data.path=/data/x=1"], [CONF]).notes == (note,)
    (note,) = as_typed(['data.path=/it\'s "x" \\'], [CONF]).notes
    (command,) = shlex.split(note.partition(" as ")[2])
    assert arrived(command) == '/it\'s "x" \\'
    assert "-m" in as_typed(["data.path=a,b"], [CONF]).notes[0]


@pytest.mark.parametrize(
    ("arguments", "words", "command"),
    [
        (["-m", "data.path=/a=1,/b"], "with -m a comma separates values", 'data.path="/a=1",/b'),
        (["-m", "data.path=/a=1,/b"], "one:", 'data.path="/a=1,/b"'),
        (['data.path="/x'], "quotes do not match", 'data.path="\\"/x"'),
        (["data.path='a' b"], "quotes do not match", "data.path=\"'a' b\""),
        (["prompt.stop=[</s>"], "brackets do not match", 'prompt.stop=["[</s>"]'),
        (["prompt.stop=[</s>,,x]"], "do not match", 'prompt.stop=["</s>,,x"]'),
        (["prompt.stop=</s>"], "list", 'prompt.stop=["</s>"]'),
        (["my.words=[a"], "brackets do not match", 'my.words="[a"'),
        (["name=range(1,x)"], "function", 'name="range(1,x)"'),
        (["algo.samples=range(1,x)"], "function", None),
        (["-m", "seed=0,1=2"], "comma", None),
        (["data.path=/my", "folder"], "folder is neither", "data.path=/my folder"),
        (["data.path = /x"], "no blanks", "data.path=/x"),
        (["report"], "task=report", None),
        (["foo"], "neither KEY=VALUE nor an option", None),
        (["=x"], "is no override", None),
        (["große=3"], "is no override", None),
        (["--foo"], "no such option", None),
        (["-m", "model=tiny,Qwen/Qwen2.5-0.5B"], "sweep", "model.path=Qwen/Qwen2.5-0.5B"),
        (["-m", "model=/a=1,B/c"], "are no choices", 'model.path="/a=1",B/c'),
    ],
)
def test_what_could_be_meant_in_several_ways_is_refused_with_the_command(arguments, words, command):
    with pytest.raises(UserError) as refusal:
        read(*arguments)
    message = str(refusal.value)
    assert words in message
    assert "\n" not in message
    assert command is None or command in message.replace("'\"'\"'", "'")
    assert not any(word in message for word in ("mismatched", "Lexer", "extraneous", "token recognition", "EOF"))


def test_a_value_of_the_wrong_type_is_left_to_its_setting():
    line = as_typed(["seed=1=2"], [CONF])
    assert line.notes == ()
    with pytest.raises(UserError, match="seed='1=2' must be a whole number"):
        composed(*line.arguments)


def test_a_hub_name_or_a_folder_is_a_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    hub = as_typed(["model=meta-llama/Llama-2-7b-hf"], [CONF])
    assert hub.arguments == ("model=local", "model.path=meta-llama/Llama-2-7b-hf")
    assert "model=local model.path=meta-llama/Llama-2-7b-hf" in hub.notes[0]
    assert read("model=mine") == ["model=local", "model.path=mine"]
    assert read("model=embedded:tiny") == ["model=local", "model.path=embedded:tiny"]
    assert read("model=./x=1") == ["model=local", 'model.path="./x=1"']
    assert read("model=~/x") == ["model=local", 'model.path="~/x"']
    assert read("-m", "model=Qwen/x", "seed=0,1") == ["-m", "model=local", "model.path=Qwen/x", "seed=0,1"]
    for preset in ("model=tiny", "model=tinny", "model=qwen2.5-0.5b"):
        assert read(preset) == [preset]


def test_a_preset_of_ones_own_in_a_folder_of_the_group_stays(tmp_path):
    (tmp_path / "model" / "mine").mkdir(parents=True)
    (tmp_path / "model" / "mine" / "small.yaml").write_text("name: small\n")
    assert list(as_typed(["model=mine/small"], [CONF, tmp_path]).arguments) == ["model=mine/small"]


@pytest.mark.parametrize("group", ["model", "data", "algo", "reward", "hydra/launcher"])
def test_a_choice_with_a_slash_is_answered_with_the_choices_that_there_are(group):
    message = suggest(ValueError(f"Could not find '{group}/openai/gsm8k' Available options"), [CONF])
    assert message.startswith(f"{group}=openai/gsm8k is unknown")
    assert not message.endswith("choose from: ")
    assert ("data=gsm8k" in message) == (group == "data")
    assert ("model=local model.path=openai/gsm8k" in message) == (group == "model")


def test_a_file_or_folder_as_a_choice_is_answered_with_the_setting_for_paths(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "files.yaml").write_text("# Files of your own.\n")
    (tmp_path / "mine.csv").write_text("")
    for path in (str(tmp_path / "mine.csv"), "./mine.csv"):
        message = suggest(ValueError(f"Could not find 'data/{path}' Available options"), [CONF, tmp_path])
        assert f"data=files data.path={path}" in message


def test_several_values_without_m_are_answered_with_the_command():
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException

    with initialize_config_dir(str(CONF), version_base="1.3"), pytest.raises(HydraException) as objection:
        compose("config", overrides=["algo=ei,sft"])
    assert suggest(objection.value, [CONF]).endswith("rlreason -m algo=ei,sft")


def test_a_value_in_quotes_names_the_run_as_one_without():
    choices = {"algo": "ei", "model": "local", "data": "gsm8k", "init": "sft", "reward": "sparse"}
    config = OmegaConf.create({"name": None, "study": None, "runs_dir": "runs", "seed": 0, "task": {"name": "train"}})
    folders = {
        run_folder(config, hydra_section(choices, [f"data.path={value}"])).name
        for value in ("/data/x=1/", '"/data/x=1/"', "'/data/x=1'")
    }
    assert folders == {"ei-local-gsm8k-sft-sparse-data.path=x=1-seed0"}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_the_home_folder_in_every_setting_that_is_a_path(home):
    paths = ("data.path", "model.path", "runs_dir", "orm.path", "eval.orm", "task.run", "task.to", "algo.rollouts")
    overrides = ["task=export", "data=gsm8k", "algo=rcrl", *(f"{path}=~/x" for path in paths)]
    config = composed(*read(*overrides))
    found = [config.runs_dir, config.data.path, config.model.path, config.orm.path, config.eval.orm]
    found += [config.task.run, config.task.to, config.algo.rollouts]
    assert set(found) == {f"{home}/x"}
    (home / "mine.py").write_text(
        "def loss(logprobs, old_logprobs, reference_logprobs, advantages, mask): return -logprobs * mask\n"
    )
    assert composed(*read("algo=grpo", "algo.loss=~/mine.py:loss")).algo.loss == f"{home}/mine.py:loss"


def test_only_the_start_of_a_path_is_the_home_folder(home):
    assert home_expanded("~") == str(home)
    assert home_expanded("/a/~/b") == "/a/~/b"
    assert home_expanded("owner/model") == "owner/model"


def test_the_runs_of_the_home_folder_lie_there(cold_rlreason, tmp_path):
    environment = {**os.environ, "HOME": str(tmp_path / "me")}
    (tmp_path / "here").mkdir()
    arguments = ["tracker=none", "-m", "runs_dir=~/my runs", "name=x", "algo.samples=0"]
    done = cold_rlreason(tmp_path / "here", *arguments, env=environment)
    assert done.code == 2
    assert "read runs_dir=~/my runs as 'runs_dir=\"~/my runs\"'" in done.output
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (r"Question: {{ question }}\nAnswer:", "Question: {{ question }}\nAnswer:"),
        (r"\nQuestion:", "\nQuestion:"),
        (r"\n\n", "\n\n"),
        (r"a\tb\t1", "a\tb\t1"),
        (r"\nthe end, \nto go", "\nthe end, \nto go"),
        (r"\n\nabla", "\n" + r"\nabla"),
        (r"a \neq b, \nabla f, \not\in, \nu_1, \text{cm}, 2\times 3, \to, \boxed{}", None),
        (r"\textbf{x} \textsuperscript{2} \tfrac12 \theta", None),
        (r"kept: \\n and \\t", None),
        ("a\nb", None),
    ],
)
def test_line_breaks_are_line_breaks_and_latex_stays(text, meant):
    assert with_line_breaks(text) == (text if meant is None else meant)


@given(st.text(st.sampled_from("\\ntabeuxo \n{")))
def test_line_breaks_are_read_once_and_nothing_else_changes(text):
    meant = with_line_breaks(text)
    assert with_line_breaks(meant) == meant
    assert meant.replace("\n", r"\n").replace("\t", r"\t") == text.replace("\n", r"\n")


@given(st.sampled_from(sorted(LATEX)), st.text(st.sampled_from("abc"), min_size=1))
def test_a_latex_command_stays_wherever_it_ends(command, word):
    assert (
        with_line_breaks(f"{word} \\{command}_1 \\{command}{{{word}}}") == f"{word} \\{command}_1 \\{command}{{{word}}}"
    )


@given(st.text(st.characters(categories=["Lu"]), min_size=1))
def test_a_word_after_a_line_break_stays_whole(word):
    assert with_line_breaks(f"\\n{word}\\t{word}") == f"\n{word}\t{word}"


def test_prompts_have_line_breaks_whoever_wrote_them():
    typed = read(r"prompt.template={{ question }}\nAnswer:", r"prompt.stop=[\nQuestion:,</s>]")
    for overrides in (typed, [r'prompt.template="{{ question }}\nAnswer:"', r'prompt.stop=["\nQuestion:","</s>"]']):
        prompt = composed(*overrides).prompt
        assert prompt.template == "{{ question }}\nAnswer:"
        assert prompt.stop == ["\nQuestion:", "</s>"]


def make_run(folder: Path, checkpoints=(), policy=None, marker="config.json"):
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("seed: 0\n")
    (folder / "journal.jsonl").write_text("")
    for number, name in enumerate(checkpoints):
        (folder / "checkpoints" / name).mkdir(parents=True)
        path = folder / "checkpoints" / name / marker
        path.write_text("{}")
        os.utime(path.parent, (number, number))
    if policy is not None:
        (folder / "result.json").write_text(json.dumps({"policy": policy} if policy else {}))
    return folder


def test_a_finished_run_as_a_model_is_its_selected_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(Path("runs/a"), ["init", "round-2", "round-10"], "checkpoints/round-2")
    config = composed("model=local", "model.path=runs/a")
    assert config.model.path == "runs/a/checkpoints/round-2"
    assert composed("model=local", "model.path=runs/a/checkpoints/round-10").model.path.endswith("round-10")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (
            "runs/half",
            "not finished; choose one of its checkpoints: model.path=runs/half/checkpoints/round-1, model.path=",
        ),
        ("runs/new", "has not finished; it has no checkpoint"),
        ("runs/measured", "without a policy"),
        ("runs/judge", "without a policy"),
        ("runs/half/checkpoints", "choose one of its checkpoints: model.path=runs/half/checkpoints/round-1, "),
        ("runs/half/checkpoints/round-9", "checkpoints: model.path=runs/half/checkpoints/round-1, "),
        ("runs/study", "holds runs; name one of them: runs/study/b"),
        ("runs", "holds runs; name one of them: runs/half, runs/judge"),
        (".", "holds studies; name a run in one of them: runs"),
    ],
)
def test_a_run_without_a_model_is_refused_with_the_checkpoints_that_there_are(path, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(Path("runs/half"), ["round-1", "round-2"])
    make_run(Path("runs/new"))
    make_run(Path("runs/measured"), policy="")
    make_run(Path("runs/judge"), policy=make_judge(tmp_path / "cache"))
    make_run(Path("runs/study/b"))
    with pytest.raises(UserError) as refusal:
        composed("model=local", f"model.path={path}")
    assert str(refusal.value).startswith(f"model.path={path} ")
    assert words in str(refusal.value)


def make_judge(folder):
    folder.mkdir(exist_ok=True)
    for name in ("config.json", "outcome_model.json"):
        (folder / name).write_text("{}")
    return str(folder)


def test_a_run_of_an_outcome_reward_model_is_that_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    judge = make_judge(tmp_path / "judge")
    make_run(Path("runs/judge"), policy=judge)
    make_run(Path("runs/policy"), ["round-1"], "checkpoints/round-1")
    make_run(Path("runs/half"))
    config = composed("orm=local", "orm.path=runs/judge", "eval.orm=runs/judge")
    assert (config.orm.path, config.eval.orm) == (judge, judge)
    with pytest.raises(UserError, match=r"orm.path=runs/policy is a run without an outcome reward model"):
        composed("orm=local", "orm.path=runs/policy")
    with pytest.raises(UserError, match=r"eval.orm=runs/half is a run that has not finished"):
        composed("eval.orm=runs/half")
    with pytest.raises(UserError, match=r"eval.orm=runs holds runs"):
        composed("eval.orm=runs")


def test_the_line_names_the_checkpoints_of_the_run(tmp_path, monkeypatch, capsys):
    from rlreason import cli

    monkeypatch.chdir(tmp_path)
    make_run(Path("runs/a b"), ["init", "round-1"], "checkpoints/round-1")
    monkeypatch.setattr("sys.argv", ["rlreason", "tracker=none", "model=runs/a b", "task=watch", "study=x"])
    with pytest.raises(SystemExit):
        cli.main()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "rlreason: read 'model=runs/a b' as model=local 'model.path=runs/a b'"
    assert "model.path=runs/a b/checkpoints/round-1; checkpoints of this run: init, round-1" in lines[1]


def test_what_was_typed_arrives_in_the_configuration_that_is_shown(cold_rlreason, tmp_path):
    (tmp_path / "my choices = 1").mkdir()
    options = ["--config-dir", "my choices = 1", "--cfg", "job", "--resolve"]
    overrides = ["experiment=smoke-smollm2", "data.path=/x=1", "prompt=few_shot", "prompt.stop=[</s>]", "name=08"]
    shown = cold_rlreason(tmp_path, *overrides, *options).check().output
    assert "path: /x=1" in shown
    assert "- </s>" in shown
    assert "name: 08" in shown or "name: '08'" in shown


def test_help_says_how_values_are_quoted(cold_rlreason, tmp_path):
    assert "in quotes" in cold_rlreason(tmp_path, "--help").check().output
