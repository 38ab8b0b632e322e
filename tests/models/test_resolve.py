"""Where models come from, and every way in which that can fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors as hub_errors

from rlreason.config.sections import ModelConfig
from rlreason.errors import UserError
from rlreason.models import resolve as resolving
from rlreason.models.resolve import ResolvedModel, check_folder, resolve

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def model_config(path: str, revision: str | None = None) -> ModelConfig:
    return ModelConfig(
        name="test",
        path=path,
        revision=revision,
        kind=None,
        thinking=None,
        parameters=None,
        shape=None,
        licence=None,
        dtype="auto",
        learning_rate=1e-4,
        orm_learning_rate=1e-5,
        rl_learning_rate=1e-6,
        micro_batch_size=1,
        gradient_checkpointing=False,
        lora_rank=0,
        lora_alpha=32.0,
    )


def write_model(folder: Path) -> Path:
    """A folder that looks complete; its weights are never opened here."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "tokenizer.json").write_text("{}")
    return folder


def refusal(path: str, revision: str | None = None) -> str:
    """The one line with which `path` is refused."""
    with pytest.raises(UserError) as caught:
        resolve(model_config(path, revision))
    message = str(caught.value)
    assert "\n" not in message
    return message


# Folders


def test_local_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_model(tmp_path / "models" / "mine")
    assert resolve(model_config(str(folder))) == ResolvedModel(folder, "folder")
    monkeypatch.chdir(tmp_path)
    assert resolve(model_config("models/mine")) == ResolvedModel(folder, "folder")


@pytest.mark.parametrize("path", ["/no/such", "./nowhere", "~/no-such-model-folder", "a/b/c", "../nowhere"])
def test_a_path_that_does_not_exist_never_reaches_the_hub(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "model_info", lambda *_, **__: pytest.fail("asked the Hub"))
    assert "no such folder" in refusal(path)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert "is a file" in refusal(str(tmp_path / "model.safetensors"))


def test_a_revision_needs_the_hub(tmp_path: Path) -> None:
    assert "model.revision=main applies to a Hub name only" in refusal(str(write_model(tmp_path)), "main")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", "no config.json"),
        ("model.safetensors", "no safetensors weights"),
        ("tokenizer.json", "no tokeniser"),
    ],
)
def test_each_missing_thing_is_named(tmp_path: Path, missing: str, message: str) -> None:
    (write_model(tmp_path) / missing).unlink()
    assert message in refusal(str(tmp_path))


@pytest.mark.parametrize("files", [["tokenizer.model"], ["vocab.json", "merges.txt"], ["vocab.txt"]])
def test_other_tokenisers_are_accepted(tmp_path: Path, files: list[str]) -> None:
    (write_model(tmp_path) / "tokenizer.json").unlink()
    for name in files:
        (tmp_path / name).write_text("")
    check_folder(tmp_path, "x")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth"])
def test_pickled_weights_are_refused_with_the_way_to_convert_them(tmp_path: Path, name: str) -> None:
    (write_model(tmp_path) / "model.safetensors").rename(tmp_path / name)
    message = refusal(str(tmp_path))
    assert name in message and "save_pretrained" in message


def test_shards_must_all_be_there(tmp_path: Path) -> None:
    write_model(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "model-1.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    check_folder(tmp_path, "x")
    index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}))
    assert "lacks model-2.safetensors" in refusal(str(tmp_path))
    index.write_text(json.dumps({"weight_map": {"a": "../model-1.safetensors"}}))
    assert "lacks ../model-1.safetensors" in refusal(str(tmp_path))
    index.write_text("{}")
    assert "names no weights" in refusal(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "is not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "names no model_type"),
        ('{"model_type": "made-up", "auto_map": {"AutoModelForCausalLM": "modeling.Model"}}', "auto_map"),
    ],
)
def test_unusable_configurations(tmp_path: Path, text: str, message: str) -> None:
    (write_model(tmp_path) / "config.json").write_text(text)
    assert message in refusal(str(tmp_path))


def test_own_code_beside_a_known_architecture_is_ignored(tmp_path: Path) -> None:
    (write_model(tmp_path) / "config.json").write_text('{"model_type": "llama", "auto_map": {}}')
    check_folder(tmp_path, "x")


def test_an_adapter_is_not_a_model(tmp_path: Path) -> None:
    (write_model(tmp_path) / "config.json").rename(tmp_path / "adapter_config.json")
    assert "merge_and_unload" in refusal(str(tmp_path))


# Embedded models


def test_embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolving, "EMBEDDED_FOLDER", tmp_path)
    assert "task=tiny_base" in refusal("embedded:tiny")
    for name in ("tiny", "small"):
        write_model(tmp_path / name)
    assert resolve(model_config("embedded:tiny")) == ResolvedModel(tmp_path / "tiny", "embedded")
    assert "choose from: small, tiny" in refusal("embedded:../tiny")


# The Hub


def fake_hub(
    monkeypatch: pytest.MonkeyPatch, answer: Exception | Path, cached: Path | None = None
) -> list[dict[str, Any]]:
    """Let the Hub answer with an error or a snapshot, and its local cache hold `cached`; returns the snapshot calls."""
    calls: list[dict[str, Any]] = []

    def model_info(*_: Any, timeout: float, **__: Any) -> None:
        assert timeout <= 10
        if isinstance(answer, Exception):
            raise answer

    def snapshot_download(name: str, *, local_files_only: bool, **keywords: Any) -> str:
        calls.append({"name": name, "local_files_only": local_files_only, **keywords})
        found = cached if local_files_only else answer
        if isinstance(found, Path):
            return str(found)
        raise found or hub_errors.LocalEntryNotFoundError("nothing cached")

    monkeypatch.setattr(huggingface_hub, "model_info", model_info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return calls


class FakeResponse:
    """As much of an HTTP response as the Hub's errors read."""

    request = None

    def __init__(self, status: int) -> None:
        self.headers: dict[str, str] = {}
        self.status_code = status


def http_error(kind: type[hub_errors.HfHubHTTPError], status: int = 403) -> hub_errors.HfHubHTTPError:
    response: Any = FakeResponse(status)
    return kind("first line\nsecond line", response=response)


def test_hub_snapshot_names_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_model(tmp_path / COMMIT)
    calls = fake_hub(monkeypatch, folder)
    assert resolve(model_config("owner/model", "v1")) == ResolvedModel(folder, f"hub owner/model@{COMMIT}")
    (call,) = calls
    assert call["revision"] == "v1" and not call["local_files_only"]
    assert not any(pattern.endswith((".bin", "*")) for pattern in call["allow_patterns"])


def network_error() -> Exception:
    return vars(hub_errors)["HTTPError"]("timed out")  # the base error of whatever client the library has


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (http_error(hub_errors.GatedRepoError), "is not open to you (403)"),
        (http_error(hub_errors.HfHubHTTPError, 401), "is not open to you (401)"),
        (http_error(hub_errors.RepositoryNotFoundError, 404), "neither a folder here nor a model on the Hub"),
        (http_error(hub_errors.RevisionNotFoundError, 404), "model.revision=v1 does not exist"),
        (http_error(hub_errors.HfHubHTTPError, 503), "cannot be reached (503)"),
        (network_error(), "model.path=FOLDER"),
        (hub_errors.OfflineModeIsEnabled("offline"), "unset HF_HUB_OFFLINE"),
    ],
)
def test_hub_errors(error: Exception, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_hub(monkeypatch, error)
    assert message in refusal("owner/model", "v1")
    # The cache is as good as the Hub, whatever keeps the Hub from answering.
    cached = write_model(tmp_path / COMMIT)
    fake_hub(monkeypatch, error, cached)
    assert resolve(model_config("owner/model", "v1")).folder == cached


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("kind", [hub_errors.GatedRepoError, hub_errors.HfHubHTTPError])
@pytest.mark.parametrize(("token", "advice"), [(None, "log in with `hf"), ("hf_secret", "a token that may read it")])
def test_gated_weights_come_with_the_way_to_them(kind, status, token, advice, tmp_path, monkeypatch) -> None:
    """The Hub describes a gated model to everyone, and refuses only its files."""
    fake_hub(monkeypatch, write_model(tmp_path))

    def refuses(*_: Any, **__: Any) -> str:
        raise http_error(kind, status)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuses)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: token)
    for name in ("meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-13b-hf"):
        message = refusal(name)
        assert f"/{name}, " in message and f"({status})" in message and advice in message
        assert "hf auth login" in message and "model.path=FOLDER" in message and "hf_secret" not in message


def test_a_connection_lost_during_the_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_hub(monkeypatch, write_model(tmp_path))

    def breaks(*_: Any, **__: Any) -> str:
        raise network_error()

    monkeypatch.setattr(huggingface_hub, "snapshot_download", breaks)
    assert "cannot be reached" in refusal("owner/model")


def test_a_name_that_no_hub_model_can_have() -> None:
    assert "neither a folder here nor a Hub name" in refusal("not a name!")


def test_offline_the_real_hub_library_answers_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert "unset HF_HUB_OFFLINE" in refusal("owner/model")
    repository = tmp_path / "models--owner--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    folder = write_model(repository / "snapshots" / COMMIT)
    assert resolve(model_config("owner/model")) == ResolvedModel(folder, f"hub owner/model@{COMMIT}")
