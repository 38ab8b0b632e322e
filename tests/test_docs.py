"""What the documents say can be done: every command composes, every link and every file that is named is there."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from test_bring_your_own import RECIPES, write_recipes
from test_own_examples import write_examples

from rlreason.arguments import as_typed
from rlreason.config.compose import from_composed
from rlreason.data.columns import ANSWERS, QUESTIONS, SOLUTIONS
from rlreason.planning.fit import check_devices, check_splits
from rlreason.planning.hardware import GIB, Hardware
from rlreason.planning.shape import model_shape
from rlreason.sweep import with_settings

ROOT = Path(__file__).parent.parent
CONF = ROOT / "conf"
LOG = ROOT / "docs/log.md"  # of commands as they were on their day
PAGES = ("README.md", "CONTRIBUTING.md", "docs/*.md", "docs/study/README.md")
DOCUMENTS = [path for page in PAGES for path in sorted(ROOT.glob(page))]
LIVING = [path for path in DOCUMENTS if path != LOG]
COMMAND = re.compile(r"^ {4}(?:\w+=\S+ )*(?:rlreason|torchrun .*-m rlreason) (.*)$|`rlreason ([^`]+)`", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
FILE = re.compile(r"`((?:rlreason|conf|tests|bench|docs|hydra_plugins)/[\w./-]*\.(?:py|md|yaml|csv))`")
GPUS = {"gpu80x1": 1, "gpu80x8": 8, "gpu80x8-2nodes": 16}  # of the presets of hardware
FLAGS = {"-m": 0, "--help": 1, "--cfg": 1, "-sc": 1}  # and the words that belong to each


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def commands() -> list[tuple[str, str]]:
    """(document, what follows `rlreason`) of every command, without its comment."""
    found = []
    for path in LIVING:
        for indented, quoted in COMMAND.findall(text_of(path)):
            command = (indented or quoted).partition("  #")[0].strip()
            if "..." not in command:
                found.append((path.name, command))
    return list(dict.fromkeys(found))


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return write_recipes(tmp_path_factory.mktemp("outside"))


@pytest.fixture(scope="module")
def own_functions(tmp_path_factory):
    return write_examples(tmp_path_factory.mktemp("functions"))


@pytest.mark.parametrize(("document", "command"), commands())
def test_every_command_composes(document, command, own, own_functions, monkeypatch):
    monkeypatch.chdir(own_functions)
    asked = shlex.split(command)
    overrides, own_choices = [], []
    while asked:
        word = asked.pop(0)
        if word == "--config-dir":
            own_choices = [f"hydra.searchpath=[file://{own / asked.pop(0)}]"]
            monkeypatch.syspath_prepend(str(own))
        elif word in FLAGS:
            del asked[: FLAGS[word]]
        else:
            assert "=" in word, word
            overrides.append(word)
    launcher = {
        "hydra/launcher=slurm": "hydra_submitit_launcher",
        "hydra/launcher=slurm_gpu80x8": "hydra_submitit_launcher",
        "hydra/launcher=ray_cluster": "hydra_ray_launcher",
    }
    for word in overrides:
        if word in launcher:
            pytest.importorskip(f"hydra_plugins.{launcher[word]}")
    several = ["-m"] if "-m" in shlex.split(command) else []
    overrides = list(as_typed([*several, *overrides], [CONF]).arguments)[len(several) :]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        values = [of(item) for item in OverridesParser.create().parse_overrides(overrides)]
        most = max(map(len, values), default=1)
        assert most == 1 or "-m" in shlex.split(command), "several values need -m"
        for number in range(most):
            chosen = with_settings([item[number % len(item)] for item in values], settings_of_study(overrides))
            config = from_composed(compose("config", overrides=[*own_choices, *chosen]))
            check_on_its_hardware(config, overrides)


def check_on_its_hardware(config, overrides: list[str]) -> None:
    """The hardware that a command names has the GPUs that it asks for, and its model can be split over them."""
    named = dict(word.split("=", 1) for word in overrides)
    gpus = GPUS.get(named.get("hardware"), config.gpus)
    if gpus is not None:
        check_devices(config, Hardware(gpus, 80 * GIB, "", None, 8 * gpus, fast_bfloat16=True))
    shape = model_shape(config.model)
    if shape is not None:
        check_splits(config, shape)


def settings_of_study(overrides: list[str]) -> dict[str, list[str]]:
    """What an experiment among the overrides sets beside some of its choices."""
    for word in overrides:
        if word.startswith("experiment="):
            experiment = yaml.safe_load(text_of(CONF / f"{word.replace('=', '/')}.yaml"))
            return experiment.get("hydra", {}).get("sweeper", {}).get("settings", {})
    return {}


def of(override) -> list[str]:
    """The override with each of its values."""
    swept = override.is_sweep_override()
    values = override.sweep_string_iterator() if swept else [override.get_value_element_as_str()]
    return [f"{override.get_key_element()}={value}" for value in values]


def test_the_commands_of_the_documents_are_found():
    assert len(commands()) > 40


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path):
    for link in LINK.findall(text_of(path)):
        if link.startswith(("http://", "https://")):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(text_of(target)), link


def anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", LIVING, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_is_named_is_there(path):
    missing = [name for name in FILE.findall(text_of(path)) if name not in RECIPES and not (ROOT / name).exists()]
    assert missing == []


def test_every_package_is_on_the_map():
    text = text_of(ROOT / "README.md")
    packages = {path.parent.name for path in ROOT.glob("rlreason/*/__init__.py")}
    assert {name for name in packages if f"`rlreason/{name}/`" not in text} == set()


def test_the_readme_is_short():
    assert len(text_of(ROOT / "README.md").splitlines()) <= 150


def test_no_paragraph_stands_in_two_documents():
    seen: dict[str, Path] = {}
    for path in LIVING:
        for paragraph in text_of(path).split("\n\n"):
            words = " ".join(paragraph.split())
            if len(words) > 120:
                assert words not in seen, f"{path.name} and {seen[words].name}: {words[:80]}"
                seen[words] = path


def test_the_page_on_data_names_every_column_that_is_guessed():
    text = text_of(ROOT / "docs/data.md")
    names = {name for ranks in (QUESTIONS, ANSWERS, SOLUTIONS) for rank in ranks for name in rank}
    assert {name for name in names if f"`{name}`" not in text} == set()
