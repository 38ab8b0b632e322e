"""Exports of one real run: they load, agree with the checkpoint, say what the run said, and refuse what cannot be."""

import contextlib
import io
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import ModelCard
from omegaconf import OmegaConf
from peft import PeftModel
from rich.console import Console
from tests_support import CONF, LABORATORY, composed, hydra_section
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from rlreason.errors import UserError
from rlreason.jobs import run_folder
from rlreason.models.resolve import EMBEDDED_FOLDER
from rlreason.models.return_condition import ReturnCondition
from rlreason.quiet import quiet_libraries
from rlreason.tasks import export as task

pytestmark = pytest.mark.engine

TEXT = "Question: Ana has 12 pens. Ben has 3 times as many. How many pens do they have together?\nAnswer:\n"


@pytest.fixture(scope="module")
def trained(rlreason, tmp_path_factory):
    """A run of SFT with adapters, on a model in a folder of the user's."""
    folder = tmp_path_factory.mktemp("export")
    model = folder / "private-models" / "mine"
    shutil.copytree(EMBEDDED_FOLDER / "tiny", model)
    (model / "README.md").write_text("---\nlicense: mit\n---\n")
    chosen = ["algo=sft", "model=local", f"model.path={model}", "model.lora_rank=4", "model.learning_rate=2e-3"]
    chosen += ["model.kind=embedded"]
    update = ["algo.batch_size=4", "algo.micro_batch_size=4", "algo.epochs=8", "algo.evaluations=1"]
    update += ["model.dtype=float32"]
    rlreason(folder, *LABORATORY, "engine=transformers", *chosen, *update, "name=run").check()
    quiet_libraries()
    return folder / "runs/run"


@pytest.fixture
def run(trained, tmp_path):
    """A copy that a test may change."""
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def exported(run: Path, *overrides: str) -> Path:
    config = composed("task=export", f"task.run={run}", *overrides)
    return task.export(config, Path("nowhere"), CONF, Console(quiet=True))


def refusal(run: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        exported(run, *overrides)
    assert "\n" not in str(caught.value)
    assert not list(run.glob(".export*"))
    return str(caught.value)


def result(run: Path) -> dict:
    return json.loads((run / "result.json").read_text())


def load(folder: Path):
    return AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()


def logits(model, folder: Path) -> torch.Tensor:
    with torch.no_grad():
        return model(**AutoTokenizer.from_pretrained(folder)(TEXT, return_tensors="pt")).logits


def execute(card: str, folder: Path, monkeypatch, **changes: str) -> str:
    """What the program in a card prints when it is run in its folder."""
    monkeypatch.chdir(folder)
    program = re.search(r"```python\n(.*?)```", card, re.DOTALL).group(1)
    for old, new in changes.items():
        program = program.replace(old, new)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(program, {})
    return printed.getvalue()


def assert_private(folder: Path, run: Path) -> None:
    for file in folder.rglob("*"):
        if file.suffix in (".json", ".md", ".jinja"):
            for secret in ("private-models", str(run.resolve().parents[1]), str(EMBEDDED_FOLDER)):
                assert secret not in file.read_text(), file


def test_merged_weights_load_and_agree(trained, monkeypatch):
    folder = exported(trained)
    assert folder == trained / "export"
    checkpoint = trained / "checkpoints/round-1"
    assert torch.equal(logits(load(folder), folder), logits(load(checkpoint), checkpoint))
    assert json.loads((folder / "rlreason.json").read_text())["largest_logit_difference"] == 0.0
    for name in ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json"):
        assert (folder / name).is_file()
    assert not list(folder.glob("adapter*"))
    assert_private(folder, trained)
    assert execute((folder / "README.md").read_text(), folder, monkeypatch).strip() != ""


def test_the_card_says_what_the_result_says(trained):
    folder = exported(trained)
    text, known = (folder / "README.md").read_text(), result(trained)
    metadata = ModelCard.load(folder / "README.md").data
    final = known["evaluations"][-1]["metrics"]
    assert {item.metric_type: item.metric_value for item in metadata.eval_results} == {
        metric: value["value"] for metric, value in final.items()
    }
    for item in metadata.eval_results:
        interval = final[item.metric_type]
        assert item.metric_args == {key: interval[key] for key in ("low", "high", "problems")}
        assert f"{interval['value']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]" in text
    assert metadata.license == "mit"
    assert {"rlreason", "sft", "lora"} == set(metadata.tags)
    assert known["commit"] in text
    assert all(f"{name} {version}" in text for name, version in known["versions"].items())
    command = next(line for line in text.splitlines() if line.startswith("    rlreason "))
    assert {"algo=sft", "model=local", "model.path=FOLDER", "model.lora_rank=4", "seed=0"} <= set(command.split())
    assert json.dumps(known["config"]["prompt"]["stop"]) in text


def test_the_adapter_on_its_base_is_the_merged_checkpoint(trained, monkeypatch):
    folder = exported(trained, "task.adapter=true")
    assert folder == trained / "export-adapter"
    base, checkpoint = trained.parents[1] / "private-models/mine", trained / "checkpoints/round-1"
    merged = load(checkpoint)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=merged.dtype)
    assert not torch.equal(logits(model.eval(), folder), logits(merged, checkpoint))
    model = PeftModel.from_pretrained(model, folder).merge_and_unload()
    assert torch.equal(logits(model.eval(), folder), logits(merged, checkpoint))
    assert not list(folder.glob("model*"))
    assert_private(folder, trained)
    card = (folder / "README.md").read_text()
    assert ModelCard.load(folder / "README.md").data.library_name == "peft"
    execute(card, folder, monkeypatch, **{"'FOLDER'": repr(str(base))})


def test_all_weights_in_another_precision(run):
    """A checkpoint of full fine-tuning is in float32 and has no adapter."""
    checkpoint = run / "checkpoints/round-1"
    shutil.rmtree(checkpoint)
    shutil.copytree(EMBEDDED_FOLDER / "tiny", checkpoint)
    folder = exported(run, "task.precision=bfloat16")
    assert load(folder).dtype == torch.bfloat16
    assert json.loads((folder / "rlreason.json").read_text())["largest_logit_difference"] == 0.0
    cast = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.bfloat16).eval()
    assert torch.equal(logits(load(folder), folder), logits(cast, checkpoint))
    assert "has no adapter" in refusal(run, "task.adapter=true")


@pytest.mark.parametrize("every_step", [True, False])
def test_a_return_conditioned_policy_comes_with_its_tag(run, monkeypatch, every_step):
    tokenizer = AutoTokenizer.from_pretrained(run / "checkpoints/round-1")
    tags = [tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in ("good: ", "bad: ")]
    ReturnCondition(*tags, every_step).save(run / "checkpoints/round-1")
    folder = exported(run)
    assert (folder / "return_condition.json").exists()
    text = (folder / "README.md").read_text()
    assert "`good: `" in text and ("before every step" in text) == every_step
    assert execute(text, folder, monkeypatch).startswith("good: ")


def test_another_checkpoint_and_the_metrics_that_it_has(run):
    shutil.copytree(run / "checkpoints/round-1", run / "checkpoints/round-0")
    text = (exported(run, "task.checkpoint=round-0", f"task.to={run / 'x'}") / "README.md").read_text()
    assert "not the selected one" in text
    assert "did not measure this checkpoint" in text


def test_an_export_is_replaced_and_other_folders_are_left_alone(run):
    folder = exported(run)
    (folder / "stale").touch()
    exported(run)
    assert not (folder / "stale").exists()
    (run / "mine").mkdir()
    (run / "mine" / "notes").touch()
    assert "name a new folder" in refusal(run, f"task.to={run / 'mine'}")
    assert "is not a folder" in refusal(run, f"task.to={run / 'result.json'}")
    assert [path.name for path in (run / "mine").iterdir()] == ["notes"]


def test_weights_that_do_not_agree_are_not_kept(run, monkeypatch):
    folder = exported(run)
    before = (folder / "model.safetensors").read_bytes()
    save = PreTrainedModel.save_pretrained

    def save_other_weights(model, written):
        save(model, written)
        shutil.copy(EMBEDDED_FOLDER / "tiny/model.safetensors", written)

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", save_other_weights)
    assert "does not agree" in refusal(run)
    assert (folder / "model.safetensors").read_bytes() == before
    assert "does not agree" in refusal(run, f"task.to={run / 'new'}")
    assert not (run / "new").exists()


def test_what_cannot_be_exported_is_refused(run, monkeypatch):
    assert "there is no run in" in refusal(run.parent / "none")
    assert "checkpoints of this run: round-1" in refusal(run, "task.checkpoint=round-9")
    settings = run / "checkpoints/round-1/adapter/adapter_config.json"
    settings.write_text(settings.read_text().replace("/mine", "/round-4"))
    assert "trained on another checkpoint of the run (round-4)" in refusal(run, "task.adapter=true")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
        assert "has 0.00 GB left" in refusal(run)
    (run / "result.json").rename(run / "later.json")
    assert "has not finished" in refusal(run)
    (run / "result.json").write_text(json.dumps({**json.loads((run / "later.json").read_text()), "policy": "/gone"}))
    assert "/gone is not there" in refusal(run)
    (run / "result.json").write_text("{}")
    assert "trained no policy" in refusal(run)


def test_the_rest_of_the_command_names_the_run(cold_rlreason, tmp_path):
    config = OmegaConf.create({"runs_dir": "runs", "study": None, "name": None, "seed": 0, "task": {"name": "export"}})
    choices = {"algo": "ei", "model": "tiny", "data": "wordproblems", "init": "scratch", "reward": "sparse"}

    def named(*overrides):
        return run_folder(config, hydra_section(choices, overrides))

    training = named("algo.rounds=2")
    assert named("task=export", "task.to=x", "algo.rounds=2") == training
    refused = cold_rlreason(tmp_path, "task=export", "algo.rounds=2")
    assert refused.code == 2
    assert refused.output.count("\n") == 1 and str(training) in refused.output
