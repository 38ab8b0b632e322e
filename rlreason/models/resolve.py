"""From the name of a model to a folder on this machine: embedded, local, or from the Hub.

Only folders that can be loaded safely come out: safetensors weights, a tokeniser, and no code of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlreason.config.sections import EMBEDDED, ModelConfig
from rlreason.errors import UserError
from rlreason.models.architecture import check_language_model
from rlreason.models.tokens import read_object

EMBEDDED_FOLDER = Path(__file__).parent / "weights"  # of the base models that travel inside the package
# A compute node behind a firewall that drops packets would otherwise wait for minutes: huggingface_hub sets no limit.
HUB_TIMEOUT_SECONDS = 5.0
# `model*` leaves out the second copy of the weights that some repositories carry (consolidated.safetensors).
HUB_FILES = ["*.json", "model*.safetensors", "tokenizer.model", "*.txt", "*.jinja"]
TOKENIZER_FILES = (("tokenizer.json",), ("tokenizer.model",), ("vocab.json", "merges.txt"), ("vocab.txt",))
REFUSED = (401, 403)  # of the Hub: no valid login; or one without access to a gated model
PICKLE_SUFFIXES = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model that lies on this machine, in a folder that `check_folder` accepts."""

    folder: Path  # absolute
    source: str  # where it came from, for the run's record: embedded, folder, or hub NAME@COMMIT


def resolve(config: ModelConfig) -> ResolvedModel:
    """Find, and where necessary fetch, the model that `config.path` names: `embedded:NAME`, a folder or a Hub name.

    Raises:
        UserError: There is no such model, it cannot be reached, or its folder cannot be used.
    """
    path = config.path
    if local_folder(path) is None:
        found = _hub(path, config.revision)
    elif config.revision is not None:
        raise UserError(
            f"model.revision={config.revision} applies to a Hub name only; leave it out with model.path={path}"
        )
    elif path.startswith(EMBEDDED):
        found = _embedded(path.removeprefix(EMBEDDED))
    else:
        found = _folder(Path(path))
    check_folder(found.folder, path)
    return found


def local_folder(path: str) -> Path | None:
    """The folder that `model.path` names, there or not; None for a name on the Hub."""
    if path.startswith(EMBEDDED):
        return EMBEDDED_FOLDER / path.removeprefix(EMBEDDED)
    looks_local = path.startswith(("/", ".", "~")) or path.count("/") > 1
    return Path(path) if looks_local or Path(path).exists() else None


def _embedded(name: str) -> ResolvedModel:
    there = sorted(folder.parent.name for folder in EMBEDDED_FOLDER.glob("*/config.json"))
    if name not in there:
        known = ", ".join(there) or "none in this installation; make them with task=tiny_base"
        raise UserError(f"model.path=embedded:{name}: there is no such embedded model; choose from: {known}")
    return ResolvedModel(EMBEDDED_FOLDER / name, "embedded")


def _folder(folder: Path) -> ResolvedModel:
    if not folder.exists():
        raise UserError(f"model.path={folder}: no such folder; check the path, or give a Hub name such as owner/model")
    if not folder.is_dir():
        raise UserError(f"model.path={folder} is a file; give the folder that holds config.json and the weights")
    return ResolvedModel(folder.resolve(), "folder")


def _hub(name: str, revision: str | None) -> ResolvedModel:
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return _download(name, revision)
    except HFValidationError as error:
        raise UserError(
            f"model.path={name} is neither a folder here nor a Hub name (owner/model); check the spelling"
        ) from error
    except GatedRepoError as error:
        raise UserError(_no_access(name, error)) from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"model.path={name} is neither a folder here nor a model on the Hub; check the spelling, "
            "or log in with `hf auth login` if it is private"
        ) from error
    except RevisionNotFoundError as error:
        raise UserError(f"model.revision={revision} does not exist for {name}; give a branch, tag or commit") from error
    except (OSError, _http_error()) as error:
        if isinstance(error, HfHubHTTPError) and error.response.status_code in REFUSED:
            raise UserError(_no_access(name, error)) from error
        status = f" ({error.response.status_code})" if isinstance(error, HfHubHTTPError) else ""
        raise UserError(
            f"model.path={name}: the Hub cannot be reached{status} and its cache here has no complete copy; "
            "connect, unset HF_HUB_OFFLINE, or copy the model here and give model.path=FOLDER"
        ) from error


def _no_access(name: str, error: Any) -> str:
    from huggingface_hub import constants, get_token

    logged_in = get_token() is not None
    remedy = "give a token that may read it (`hf auth login`)" if logged_in else "log in with `hf auth login`"
    return (
        f"model.path={name} is not open to you ({error.response.status_code}): ask for access at "
        f"{constants.ENDPOINT}/{name}, {remedy}, and run again, or use a copy with model.path=FOLDER"
    )


def _download(name: str, revision: str | None) -> ResolvedModel:
    """Take a snapshot from the Hub, or the complete one in the local cache when the Hub does not answer."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def snapshot(cached_only: bool) -> ResolvedModel:
        folder = Path(
            huggingface_hub.snapshot_download(
                name,
                revision=revision,
                allow_patterns=HUB_FILES,
                ignore_patterns=["*/*"],
                etag_timeout=HUB_TIMEOUT_SECONDS,
                local_files_only=cached_only,
            )
        )
        return ResolvedModel(folder, f"hub {name}@{folder.name}")

    try:
        huggingface_hub.model_info(name, revision=revision, timeout=HUB_TIMEOUT_SECONDS)
    except (OSError, _http_error()) as unreachable:
        try:
            return snapshot(cached_only=True)
        except LocalEntryNotFoundError:
            raise unreachable from None
    return snapshot(cached_only=False)


def _http_error() -> type[Exception]:
    """The base error of the HTTP client that this release of huggingface_hub uses (it has changed clients before)."""
    from huggingface_hub import errors

    client_error: type[Exception] = vars(errors)["HTTPError"]
    return client_error


def check_folder(folder: Path, name: str) -> None:
    """Refuse a model folder, which the user calls `name`, that cannot be loaded, or not safely.

    Raises:
        UserError: Configuration, weights or tokeniser are missing or broken, or the model needs code of its own.
    """
    _check_configuration(folder, name)
    _check_weights(folder, name)
    if not any(all((folder / file).is_file() for file in files) for files in TOKENIZER_FILES):
        raise UserError(
            f"model.path={name} has no tokeniser; put tokenizer.json, tokenizer.model, or vocab.json and merges.txt "
            "beside the weights (tokenizer.save_pretrained(FOLDER) writes them)"
        )


def _check_configuration(folder: Path, name: str) -> None:
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise UserError(
                f"model.path={name} is an adapter, not a model; merge it into its base with merge_and_unload()"
            )
        raise UserError(f"model.path={name} has no config.json; give a folder that save_pretrained wrote")
    values = _read_object(folder / "config.json", name)
    if "model_type" not in values:
        raise UserError(f"model.path={name}: config.json names no model_type; give a folder that save_pretrained wrote")
    check_language_model(values, name)


def _check_weights(folder: Path, name: str) -> None:
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        return
    if index.is_file():
        shards = _read_object(index, name).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise UserError(f"model.path={name}: {index.name} names no weights; copy or download the model again")
        for shard in sorted(set(map(str, shards.values()))):
            # A name with a folder in it could point out of the model.
            if Path(shard).name != shard or not (folder / shard).is_file():
                raise UserError(
                    f"model.path={name} lacks {shard}, which {index.name} names; copy or download the model again"
                )
        return
    pickled = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLE_SUFFIXES)
    if pickled:
        raise UserError(
            f"model.path={name} has only pickled weights ({pickled[0]}), which can run code when they are opened; "
            "convert them where that is safe: AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)"
        )
    raise UserError(
        f"model.path={name} has no safetensors weights (model.safetensors, or shards with an index); "
        "choose another model, or write them with save_pretrained(FOLDER)"
    )


def _read_object(file: Path, name: str) -> dict[str, Any]:
    return read_object(file, f"model.path={name}: {file.name}")
