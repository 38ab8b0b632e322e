"""The export task: from a finished run to a folder that anyone can load, with its model card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlreason.config.experiment import ExperimentConfig
from rlreason.config.sections import ExportConfig
from rlreason.errors import UserError
from rlreason.run.checkpoints import checkpoints, is_run, selected
from rlreason.run.files import put_in_place, read_result
from rlreason.run.identity import prompt_of
from rlreason.run.stage import FINAL, greedy

if TYPE_CHECKING:
    from rich.console import Console

    from rlreason.models.export import Agreement

MARKER = "rlreason.json"
TEXTS = 4
SPARE_BYTES = 50_000_000  # tokeniser, card and the file system's own needs


@dataclass(frozen=True)
class Source:
    """A checkpoint of a finished run; `is_policy` says whether it is the one that the run selected."""

    run: Path
    result: Mapping[str, Any]
    checkpoint: Path
    name: str
    is_policy: bool


def export(config: ExperimentConfig, run: Path, conf: Path, console: Console) -> Path:
    """Write a checkpoint, its tokeniser and its card; reload it and compare; keep the folder only if it agrees.

    The checkpoint is one of the run in the folder `run`, unless `task.run` names another. `conf` is the folder of
    configuration files, for the command that the card shows.

    Raises:
        UserError: Run, checkpoint, target or disk do not allow it, or the folder does not agree with the checkpoint.
    """
    wanted = config.task
    assert isinstance(wanted, ExportConfig)
    source = _find_source(Path(wanted.run) if wanted.run is not None else run, wanted.checkpoint)
    target = (
        Path(wanted.to) if wanted.to is not None else source.run / ("export-adapter" if wanted.adapter else "export")
    )
    _check_target(target, source, wanted)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        with console.status(f"exporting {source.name} of {source.run.name}"):
            agreement = _write(config, wanted, source, partial, conf)
        if target.exists():
            shutil.rmtree(target)
        put_in_place(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    agrees = f"reloaded, its logits on {agreement.texts} texts differ by at most {agreement.difference:.3g}"
    if agreement.from_checkpoint > agreement.difference:
        agrees += f" ({agreement.from_checkpoint:.3g} from the checkpoint in its own precision)"
    line(f"{source.run.name}: {source.name}, {agreement.dtype}; {agrees}")
    line(f"everything is in {target}; its README.md says how to ask it")
    return target


def _find_source(run: Path, checkpoint: str | None) -> Source:
    """The checkpoint to export; a UserError where there is none, or the run has not finished."""
    if not is_run(run):
        raise UserError(f"there is no run in {run}; name the folder of a finished one with task.run=runs/NAME")
    result = read_result(run)
    if result is None:
        raise UserError(f"{run} has not finished; give its command again, and export when it has ended")
    policy = selected(run)
    if policy is None:
        raise UserError(
            f"{run} trained no policy; name a run of algo=ei, ppo, grpo, rcrl or sft with task.run=runs/NAME"
        )
    folder = policy if checkpoint is None else run / "checkpoints" / checkpoint
    if not (folder / "config.json").is_file():
        there = ", ".join(checkpoints(run)) or "none"
        raise UserError(f"the checkpoint {folder} is not there; checkpoints of this run: {there}")
    is_policy = folder.resolve() == policy.resolve()
    own = folder.resolve().is_relative_to(run.resolve())
    name = folder.name if own else "the checkpoint it started from"
    return Source(run, result, folder, name, is_policy)


def _check_target(target: Path, source: Source, wanted: ExportConfig) -> None:
    """Raise a UserError unless `target` is new, empty, or an earlier export, and its disk has room."""
    from rlreason.models.export import weight_bytes

    if target.exists() or target.is_symlink():
        if not target.is_dir():
            raise UserError(f"task.to={target} is not a folder; name a new one")
        if any(target.iterdir()) and not (target / MARKER).is_file():
            raise UserError(f"task.to={target} has files that no export wrote; name a new folder, or empty this one")
    weights = 0 if wanted.adapter else weight_bytes(source.checkpoint, wanted.precision)
    there = next(folder for folder in (target, *target.resolve().parents) if folder.exists())
    free, needed = shutil.disk_usage(there).free, weights + SPARE_BYTES
    if free < needed:
        raise UserError(
            f"the export takes {needed / 1e9:.2f} GB and the disk of {there} has {free / 1e9:.2f} GB left; free some "
            "space, name another folder with task.to, or set task.precision=bfloat16"
        )


def _write(config: ExperimentConfig, wanted: ExportConfig, source: Source, folder: Path, conf: Path) -> Agreement:
    """Write everything to `folder`."""
    from rlreason.quiet import quiet_libraries

    quiet_libraries()
    from rlreason.models.export import write_adapter, write_merged
    from rlreason.models.loading import load_tokenizer
    from rlreason.models.resolve import resolve
    from rlreason.study.model_card import base_name, base_revision, licence_of, model_card
    from rlreason.tasks.report import composer

    result = source.result
    tokenizer = load_tokenizer(source.checkpoint)
    examples = _evaluated_texts(source)
    texts = [prompt + completion for prompt, completion in examples]
    licence = result["config"]["model"]["licence"]
    if wanted.adapter or result["model_source"] == "folder":
        model = result["config"]["model"]
        base = resolve(replace(config.model, path=model["path"], revision=model["revision"])).folder
        licence = licence_of(base) or licence
    if wanted.adapter:
        name, revision = base_name(result), base_revision(result)
        agreement = write_adapter(source.checkpoint, base, name, revision, folder, texts)
    else:
        agreement = write_merged(source.checkpoint, folder, wanted.precision, texts)
    if not agreement.difference <= agreement.allowed:
        raise UserError(
            f"the exported folder does not agree with {source.name}: its logits differ by {agreement.difference:.3g}, "
            f"where rounding explains {agreement.allowed:.3g}; nothing was kept, so check the checkpoint and the disk"
        )
    described = _described(source, wanted, agreement, licence, examples[0], tokenizer)
    (folder / "README.md").write_text(model_card(result, described, composer(conf)), encoding="utf-8")
    facts = {"run": result["name"], "checkpoint": source.name, "adapter": wanted.adapter, "dtype": agreement.dtype}
    compared = {"texts": agreement.texts, "largest_logit_difference": agreement.difference}
    (folder / MARKER).write_text(json.dumps(facts | compared, indent=2) + "\n", encoding="utf-8")
    return agreement


def _evaluated_texts(source: Source) -> list[tuple[list[int], list[int]]]:
    """Token ids of a few prompts of the run's last evaluation, each with the greedy completion."""
    import pyarrow.parquet as pq

    split = source.result["config"]["eval"]["split"]
    file = source.run / "rollouts" / f"{greedy(split, FINAL).name}.parquet"
    if not file.is_file():
        raise UserError(f"{file} is not there, and an export is checked on its prompts; put the run folder back whole")
    columns = pq.read_table(file, columns=["prompt_token_ids", "token_ids"]).slice(0, TEXTS).to_pydict()
    return list(zip(columns["prompt_token_ids"], columns["token_ids"], strict=True))


def _described(
    source: Source,
    wanted: ExportConfig,
    agreement: Agreement,
    licence: str | None,
    example: tuple[Sequence[int], Sequence[int]],
    tokenizer: Any,
) -> Any:
    """What the card says of the exported checkpoint, as a `rlreason.study.model_card.Exported`."""
    from rlreason.models.return_condition import condition_of
    from rlreason.study.model_card import Exported

    condition = condition_of(source.checkpoint)
    as_tokens = condition is not None and len(condition.good) == len(condition.bad) == 1
    # The prompt is text, and gets its first token from the tokeniser again when it is read; a chat prompt keeps it.
    first = tokenizer.bos_token_id
    prompt = list(example[0])
    if not prompt_of(source.result)["chat"] and prompt[:1] == [first]:
        prompt = prompt[1:]
    return Exported(
        checkpoint=source.name,
        is_policy=source.is_policy,
        adapter=wanted.adapter,
        dtype=agreement.dtype,
        licence=licence,
        prompt=tokenizer.decode(prompt, skip_special_tokens=False),
        completion=tokenizer.decode(list(example[1]), skip_special_tokens=True).strip(),
        tag=tokenizer.decode(list(condition.good)) if condition else None,
        tag_every_step=condition.every_step if condition else False,
        tag_tokens=(*condition.good, *condition.bad) if condition and as_tokens else (),
    )
