"""Whether two states of the code give the same numbers, to the last bit.

    python -m tests.same_numbers OLD NEW [--keep FOLDER] [--only CASE ...]

OLD and NEW are git revisions, or folders that hold the package (`.` is the working tree as it is now; it is copied
first, so that it may be edited meanwhile). Small experiments, `CASES`, are run on both by `python -m rlreason`, each in
a process of its own with one thread on one core. As many run at the same time as this process has cores: put
`taskset -c 0` before the command to use one core only. GPUs are not used.

What is compared, in the run folder and in the folders of `runs/cache` (paired by their names without the hash):

- every column of `rollouts/*.parquet` and `evaluations/*.parquet`;
- the numbers of `metrics.jsonl`, except times and rates;
- of every stage in `journal.jsonl` the fields `JOURNAL`, and of `result.json` the fields `RESULT`;
- the bytes, type and shape of every tensor in a folder with `*.safetensors`, whichever file it lies in.

For each case the first differences are shown: where, the value of OLD | the value of NEW. A column or field that only
NEW has is no difference; one that only OLD has is, and so is a file, row or stage that only one of them has, except
the journal of a folder that kept none in OLD. The exit code is 0 without differences, 1 with some, and 2 where the
command is wrong. A case that fails on a side differs.

`--keep FOLDER` stores finished runs of revisions under their commit and takes them from there the next time. A case
whose overrides were changed is run again, and so is NEW where it is the same commit as OLD: that shows whether the
cases are deterministic here. Numbers depend on the processor and on the versions of torch and others: where one of them
changes, remove the folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from safetensors import deserialize

ROOT = Path(__file__).parent.parent
SHOWN = 5

COMMON = [
    "engine=transformers",
    "engine.max_sequences=64",
    "tracker=none",
    "seed=0",
    "model=tiny",
    "data=wordproblems",
    "data.train_size=24",
    "data.validation_size=8",
    "data.test_size=10",
    "data.max_completion_tokens=80",
    "eval.k=3",
    "eval.resamples=200",
]
SUPERVISED = ["algo.epochs=2", "algo.batch_size=8", "algo.micro_batch_size=4"]
EI = ["algo=ei", *SUPERVISED, "algo.samples=4", "algo.patience=2"]
RCRL = ["algo=rcrl", *SUPERVISED, "algo.samples=4"]
BATCHES = [
    "algo.batches=4",
    "algo.questions=4",
    "algo.samples=4",
    "algo.minibatch_size=8",
    "algo.micro_batch_size=4",
    "algo.evaluations=4",
]
PPO = ["algo=ppo", *BATCHES]
GRPO = ["algo=grpo", *BATCHES]
ORM = ["orm.samples=6", "orm.epochs=1", "orm.batch_size=8", "orm.micro_batch_size=8"]
LORA = ["model.lora_rank=4"]

CASES = {
    "sft": ["algo=sft", *SUPERVISED, "algo.evaluations=4", "eval.k_between=3"],
    "ei-sparse": [*EI, "algo.rounds=2"],
    "ei-dense-sft": [*EI, "algo.rounds=1", "reward=dense", "init=sft"],
    "ei-orm": [*EI, "algo.rounds=1", "reward=orm", *ORM],
    "ei-lora": [*EI, "algo.rounds=1", *LORA],
    "rcrl-outcome": [*RCRL, "algo.labels=outcome"],
    "rcrl-orm-step": [*RCRL, "algo.labels=orm", "algo.per=step", *ORM],
    "ppo-shared": [*PPO, "algo.critic=shared", "algo.kl_in=reward", "algo.kl_coefficient=0.05"],
    "ppo-separate-dense": [
        *PPO,
        "reward=dense",
        "algo.critic=separate",
        "algo.epochs=2",
        "algo.kl_in=loss",
        "algo.kl_coefficient=0.1",
        "algo.truncated=bootstrap",
        "data.max_completion_tokens=24",  # cuts some completions
    ],
    "ppo-orm": [*PPO, "reward=orm", "algo.kl_in=loss", "algo.critic=separate", "algo.critic_start=orm", *ORM],
    "ppo-backtracking-prioritized": [*PPO, "algo.backtracking=true", "algo.replay=prioritized"],
    "grpo-group": [*GRPO, "algo.advantage=group"],
    "grpo-dr_grpo-kl": [*GRPO, "algo.advantage=dr_grpo", "algo.kl_coefficient=0.05"],
    "grpo-rloo": [*GRPO, "algo.advantage=rloo"],
    "grpo-lora": [*GRPO, *LORA, "algo.kl_coefficient=0.05"],
    "orm": ["algo=orm", *ORM],
    "evaluate": ["task=evaluate"],
}

JOURNAL = ("steps", "loss", "tokens", "rollouts", "cut_at_limit", "examples", "probe_gap", "calibration")
RESULT = ("evaluations", "differences", "verdict", "rollouts", "tokens", "good_minus_bad", "judging")
TIMES = re.compile("second|time")
PACKAGE = ("rlreason", "conf", "hydra_plugins")


@dataclass(frozen=True)
class Side:
    """One of the two states of the code.

    Args:
        label: OLD or NEW.
        commit: The commit of a revision; None for a folder.
        tree: Where its code lies, or will lie once it is needed.
        cases: Folder with one folder for every case.
    """

    label: str
    commit: str | None
    tree: Path
    cases: Path

    def finished(self, case: str) -> bool:
        """Whether the case, as it is defined now, has been run."""
        record = self.cases / case / "finished.json"
        return record.exists() and json.loads(record.read_text()) == [*COMMON, *CASES[case]]

    def run(self, case: str) -> str | None:
        """Run a case unless it is there; the end of its output if it failed."""
        folder = self.cases / case
        if self.finished(case):
            return None
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        overrides = [*COMMON, *CASES[case]]
        threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "rlreason", *overrides, "runs_dir=runs", "name=run"],
            cwd=folder,  # without a package in it, PYTHONPATH comes first
            env={**os.environ, **threads, "PYTHONPATH": str(self.tree), "CUDA_VISIBLE_DEVICES": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        (folder / "output.txt").write_text(done.stdout)
        if done.returncode != 0:
            return f"{self.label} failed with exit code {done.returncode}: {done.stdout[-1500:].strip()}"
        (folder / "finished.json").write_text(json.dumps(overrides))
        return None


def numbers(runs: Path) -> dict[str, Any]:
    """Everything that is compared, as plain values under the file, the stage or the checkpoint that holds it."""
    caches = sorted((runs / "cache").glob("*/"), key=lambda folder: folder.stat().st_mtime)
    found: dict[str, Any] = {}
    for folder in [runs / "run", *caches]:
        place = re.sub(r"-[0-9a-f]{12}$", "", folder.relative_to(runs).as_posix())
        if any(name.startswith(f"{place}/") for name in found):
            raise ValueError(f"{runs / 'cache'} has two folders that cannot be told apart without their hash: {place}")
        found |= {f"{place}/{name}": value for name, value in numbers_of_folder(folder).items()}
    return found


def numbers_of_folder(folder: Path) -> dict[str, Any]:
    """What is compared of one run folder or one folder of the cache."""
    found: dict[str, Any] = {}
    for path in sorted([*folder.glob("rollouts/*.parquet"), *folder.glob("evaluations/*.parquet")]):
        rows = pq.read_table(path).to_pylist()
        named_rows = {f"row {number}": row for number, row in enumerate(rows)}
        found[path.relative_to(folder).as_posix()] = {"rows": len(rows), **named_rows}
    for record in read_lines(folder / "metrics.jsonl"):
        found[f"metrics.jsonl, {record['stage']}"] = {
            key: value for key, value in record.items() if isinstance(value, int | float) and not TIMES.search(key)
        }
    for record in read_lines(folder / "journal.jsonl"):
        found[f"journal.jsonl, {record['stage']}"] = {key: record[key] for key in JOURNAL if key in record}
    if (folder / "result.json").exists():
        result = json.loads((folder / "result.json").read_text())
        found["result.json"] = {key: result[key] for key in RESULT if key in result}
    for checkpoint in sorted({path.parent for path in folder.rglob("*.safetensors")}):
        found[checkpoint.relative_to(folder).as_posix()] = tensor_hashes(checkpoint)
    return found


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file with one JSON object a line; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def tensor_hashes(checkpoint: Path) -> dict[str, str]:
    """SHA-256 of every tensor in a folder; of all of them together where several have the same name."""
    hashes: dict[str, Any] = {}
    for path in sorted(checkpoint.glob("*.safetensors")):
        for name, tensor in deserialize(path.read_bytes()):
            hash_ = hashes.setdefault(name, hashlib.sha256())
            hash_.update(f"{tensor['dtype']} {tensor['shape']} ".encode())
            hash_.update(tensor["data"])
    return {name: hash_.hexdigest() for name, hash_ in sorted(hashes.items())}


def compare(old: Path, new: Path) -> list[str]:
    """All differences between the folders of all runs of the two sides, one a line."""
    ours, theirs = numbers(old), numbers(new)
    lines = []
    for place in [*ours, *(name for name in theirs if name not in ours)]:
        if place in ours and place in theirs:
            lines += differences(ours[place], theirs[place], place)
        elif place in ours or not new_journal(place, ours):
            lines.append(f"{place}: only {'OLD' if place in ours else 'NEW'} has it")
    return lines


def new_journal(place: str, ours: dict[str, Any]) -> bool:
    """Whether a stage stands in the journal of a folder that kept none in OLD."""
    folder, found, _ = place.partition("/journal.jsonl, ")
    return bool(found) and not any(name.startswith(f"{folder}/journal.jsonl, ") for name in ours)


def differences(old: Any, new: Any, where: str) -> Iterator[str]:
    """Every difference between two values, and where it is; keys that only `new` has are none."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key, value in old.items():
            if key in new:
                yield from differences(value, new[key], f"{where}, {key}")
            else:
                yield f"{where}, {key}: only OLD has it"
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            yield f"{where}: {len(old)} | {len(new)} items"
        for index, (value, other) in enumerate(zip(old, new, strict=False)):
            yield from differences(value, other, f"{where}[{index}]")
    elif repr(old) != repr(new):  # exact for numbers, knows -0.0 from 0.0, and NaN is NaN
        yield f"{where}: {old!r} | {new!r}"


def commit_of(asked: str) -> str | None:
    """The commit of a revision; None for a folder with the package."""
    if (Path(asked) / "rlreason").is_dir():
        return None
    found = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--verify", "--quiet", f"{asked}^{{commit}}"],
        capture_output=True,
        text=True,
    )
    if found.returncode != 0:
        raise argparse.ArgumentTypeError(f"{asked} is neither a folder with the package nor a git revision")
    return found.stdout.strip()


def lay_out(side: Side, asked: str, stack: ExitStack) -> None:
    """Put the code of a side into its tree, a revision until the stack is closed."""
    if side.commit is None:
        for part in PACKAGE:
            if (Path(asked) / part).is_dir():
                shutil.copytree(Path(asked) / part, side.tree / part, ignore=shutil.ignore_patterns("__pycache__"))
        return
    worktree = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*worktree, "add", "--quiet", "--detach", str(side.tree), side.commit], check=True)
    stack.callback(subprocess.run, [*worktree, "remove", "--force", str(side.tree)], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.same_numbers", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("old", metavar="OLD", help="git revision or folder")
    parser.add_argument("new", metavar="NEW", help="git revision or folder; `.`: the working tree")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="store runs of revisions here and use them again")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help=", ".join(CASES))
    asked = parser.parse_args()
    try:
        old_commit, new_commit = commit_of(asked.old), commit_of(asked.new)
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))
    with ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="same-numbers-")))

        def side(label: str, commit: str | None, kept: bool) -> Side:
            cases = asked.keep.resolve() / commit if kept and asked.keep and commit else temporary / f"{label}-cases"
            return Side(label, commit, temporary / label, cases)

        old = side("OLD", old_commit, kept=True)
        new = side("NEW", new_commit, kept=new_commit != old_commit)
        for each, tree in ((old, asked.old), (new, asked.new)):
            if not all(each.finished(case) for case in asked.only):
                lay_out(each, tree, stack)
        return run_and_compare(old, new, asked.only)


def run_and_compare(old: Side, new: Side, cases: list[str]) -> int:
    """Run the cases on both sides, one at a time on every core, and print what differs; the exit code."""
    cores: queue.SimpleQueue[int] = queue.SimpleQueue()
    for core in os.sched_getaffinity(0):
        cores.put(core)

    def stay_on_one_core() -> None:
        os.sched_setaffinity(0, {cores.get()})  # of this thread, and so of the processes that it starts

    differing = 0
    pool = ThreadPoolExecutor(cores.qsize(), initializer=stay_on_one_core)
    try:
        running = [(case, pool.submit(old.run, case), pool.submit(new.run, case)) for case in cases]
        for case, *both in running:
            lines = [failure for failure in (future.result() for future in both) if failure]
            lines = lines or compare(old.cases / case / "runs", new.cases / case / "runs")
            differing += bool(lines)
            print(f"{case}: {'differs, OLD | NEW:' if lines else 'no difference'}", flush=True)
            for line in lines[:SHOWN]:
                print(f"    {line}", flush=True)
            if len(lines) > SHOWN:
                print(f"    and {len(lines) - SHOWN} more", flush=True)
    finally:
        pool.shutdown(cancel_futures=True)
    print(f"{differing} of {len(cases)} cases differ" if differing else f"no difference in {len(cases)} cases")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
