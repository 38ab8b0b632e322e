"""Kills small runs at random moments, gives the same command again until it completes, and compares what is there.

    python -m tests.faults --kills 200 --seed 0 [--case CASE ...] [--folder FOLDER] [--report FILE]

Every case of `CASES` is run once undisturbed. In turn, each is then run in a fresh folder and killed with SIGKILL, its
whole process group at once, after a time that is drawn from the seed; the same command follows, and is killed again,
up to `MOST_KILLS` times; the last one is left to complete. What it leaves must equal what the undisturbed run left, to
the last bit: every column of the rollouts and evaluations, every tensor, losses and metrics. No sample, stage or
metric may be there twice. A report is compared as text.

The commands run in forks of one process that has paid for the heavy imports, with one thread; put `taskset -c 0` before
the command to leave other cores alone. The exit code is 0 if every run survived, 1 if one did not (its folder is kept),
2 where the command is wrong. FOLDER must be new, empty, or one that this tool has made: it is emptied. The report is
Markdown, and JSON where FILE ends with .json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

if __package__:
    from tests import same_numbers, zygote
else:
    import same_numbers
    import zygote

MARK = ".made-by-rlreason-faults"
MOST_KILLS = 4  # of one run; it completes then, whatever was drawn
NEVER_SECONDS = 600.0  # a command that takes longer hangs
LATEST = 1.05  # of the time of the undisturbed run, by which the first kill is drawn
SMALL = [*same_numbers.COMMON, "checkpoint_seconds=0", "runs_dir=runs"]
ONE = [*SMALL, "name=run"]
STUDY = [*SMALL, "algo=sft", "algo.epochs=1", "algo.evaluations=1", "eval=greedy", "study=s", "seed=0,1"]
OF_SAME_NUMBERS = ("sft", "ei-sparse", "ei-dense-sft", "ei-orm", "ppo-shared", "ppo-orm", "grpo-group", "orm")
CASES: dict[str, list[str]] = {
    **{name: [*ONE, *same_numbers.CASES[name]] for name in OF_SAME_NUMBERS},
    "rcrl": [*ONE, *same_numbers.CASES["rcrl-outcome"]],
    "sweep": ["-m", *STUDY],
    "report": ["task=report", "runs_dir=runs", "study=s"],  # of the undisturbed sweep
}
TEXTS = ("results.csv", "report.html", "report.md")


@dataclass(frozen=True)
class Kill:
    """A kill, or a command that ended before it was to be killed.

    Args:
        case: Name in `CASES`.
        run: Number of the run, over all cases.
        seconds: After which the kill was drawn.
        killed: Whether it came in time.
        there: What the folder then held: the last finished stage, and files that were being written.
    """

    case: str
    run: int
    seconds: float
    killed: bool
    there: str


@dataclass(frozen=True)
class Outcome:
    """How a run ended that was killed some times.

    Args:
        case: Name in `CASES`.
        run: Its number.
        kills: How often it was killed.
        troubles: What is not as it should be; empty where it survived.
    """

    case: str
    run: int
    kills: int
    troubles: tuple[str, ...]


def take(folder: Path) -> Path:
    """Make a folder ours and empty it.

    Raises:
        ValueError: Something is there that this tool has not made.
    """
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / MARK).is_file())):
        raise ValueError(f"{folder} was not made by this tool; name a new or an empty folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARK).touch()
    return folder


def run(folder: Path, arguments: list[str], kill_after: float | None) -> tuple[int, float]:
    """Give a command in a folder; its exit code, -9 where it was killed, and the seconds that it took.

    Raises:
        TimeoutError: It does not end.
    """
    job = {"arguments": arguments, "folder": str(folder), "output": str(folder / "output.txt"), "kill": None}
    sys.stdout.flush()
    begun = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        zygote.child(job)
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        passed = time.monotonic() - begun
        if found:
            return os.waitstatus_to_exitcode(status), passed
        if (kill_after is not None and passed >= kill_after) or passed >= NEVER_SECONDS:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            if passed >= NEVER_SECONDS:
                raise TimeoutError(f"a command has not ended after {NEVER_SECONDS:.0f} s")
            return -signal.SIGKILL, passed
        time.sleep(0.002)


def run_folders(runs: Path) -> list[Path]:
    """All folders that keep a journal, those of the cache and of a study included."""
    return sorted(path.parent for path in runs.rglob("journal.jsonl"))


def there(runs: Path) -> str:
    """What a run that was killed has left, in words."""
    stages = [record["stage"] for folder in run_folders(runs) for record in whole_lines(folder / "journal.jsonl")]
    written = [path.name for path in runs.rglob("*") if path.name.endswith((".tmp", ".arrows")) or ".part" in path.name]
    if not runs.exists():
        return "nothing"
    parts = [f"{len(stages)} stages, the last {stages[-1]}" if stages else "no stage"]
    parts += [f"in writing: {', '.join(sorted(set(written))[:3])}"] if written else []
    return "; ".join(parts)


def whole_lines(path: Path) -> Iterator[dict]:
    """The records of a file whose last line may be cut."""
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            yield json.loads(line)


def twice(runs: Path) -> list[str]:
    """What is there more than once, of what may be there once."""
    import pyarrow.parquet as pq

    found = []
    for folder in run_folders(runs):
        named = {
            "journal.jsonl": [record["stage"] for record in same_numbers.read_lines(folder / "journal.jsonl")],
            "metrics.jsonl": [json.dumps(line, sort_keys=True) for line in metric_places(folder)],
        }
        for path in folder.glob("rollouts/*.parquet"):
            columns = pq.read_table(path, columns=None).to_pydict()
            if "problem_id" in columns and "sample" in columns:
                named[path.name] = list(zip(columns["problem_id"], columns["sample"], strict=True))
        for name, items in named.items():
            found += [
                f"{folder.name}/{name}: {item} is there {number} times"
                for item, number in Counter(items).items()
                if number > 1
            ]
        found += [f"{path.name} is left over" for path in folder.glob("rollouts/*.arrows")]
    return found


def metric_places(folder: Path) -> list[dict]:
    """Of every line of metrics.jsonl the stage and the names of what it logs."""
    lines = same_numbers.read_lines(folder / "metrics.jsonl")
    return [{"stage": line["stage"], "samples_seen": line.get("samples_seen"), "keys": sorted(line)} for line in lines]


def compare(whole: Path, runs: Path, case: str) -> list[str]:
    """What a run has left that differs from what the undisturbed one has left."""
    if case == "report":
        return [
            f"runs/s/{name} differs"
            for name in TEXTS
            if not (runs / "s" / name).exists() or digest(whole / "s" / name) != digest(runs / "s" / name)
        ]
    ours, theirs = ([folder.relative_to(place) for folder in run_folders(place)] for place in (whole, runs))
    found = [f"{name}: only one of the two has it" for name in sorted(set(ours) ^ set(theirs))]
    for name in sorted(set(ours) & set(theirs)):
        one, other = (same_numbers.numbers_of_folder(place / name) for place in (whole, runs))
        found += [f"{name}/{place}: only one of the two has it" for place in sorted(set(one) ^ set(other))]
        for place in sorted(set(one) & set(other)):
            found += same_numbers.differences(one[place], other[place], f"{name}/{place}")
    return [*found, *twice(runs)]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def prepared(folder: Path, case: str, whole: Path) -> Path:
    """The folder that a case runs in; that of a report holds the sweep."""
    folder.mkdir(parents=True)
    if case == "report":
        shutil.copytree(whole / "sweep" / "runs", folder / "runs")
    return folder


def undisturbed(folder: Path, case: str) -> float:
    """Run a case once, unless it has been; the seconds that it takes.

    Raises:
        RuntimeError: It fails.
    """
    if case == "report" and not (folder / "sweep").exists():
        undisturbed(folder, "sweep")
    record = folder / f"{case}.json"
    if not record.exists():
        code, seconds = run(prepared(folder / case, case, folder), CASES[case], None)
        if code != 0:
            raise RuntimeError(f"{case} fails undisturbed: {(folder / case / 'output.txt').read_text()[-1500:]}")
        record.write_text(json.dumps(seconds))
        print(f"{case}: undisturbed in {seconds:.1f} s", flush=True)
    return float(json.loads(record.read_text()))


def survive(
    place: Path, whole: Path, case: str, number: int, seconds: float, left: int, moments: random.Random
) -> tuple[list[Kill], Outcome]:
    """Kill one run some times, at most `left`, let it complete, and compare it."""
    folder = prepared(place, case, whole)
    kills: list[Kill] = []
    wanted = min(moments.randint(1, MOST_KILLS), left)
    troubles: list[str] = []
    code = None
    while code != 0 and not troubles:
        # What is left to do becomes less with every command.
        at = moments.uniform(0, LATEST * seconds / (1 + len(kills))) if len(kills) < wanted else None
        try:
            code, _ = run(folder, CASES[case], at)
        except TimeoutError as error:
            troubles.append(str(error))
            break
        if at is not None:
            kills.append(Kill(case, number, round(at, 3), code == -signal.SIGKILL, there(folder / "runs")))
        if code not in (0, -signal.SIGKILL):
            troubles.append(f"exit code {code}: {(folder / 'output.txt').read_text(errors='replace')[-800:]}")
    if not troubles:
        troubles = compare(whole / case / "runs", folder / "runs", case)
    return kills, Outcome(case, number, sum(kill.killed for kill in kills), tuple(troubles))


def markdown(kills: list[Kill], outcomes: list[Outcome], seconds: dict[str, float], command: str) -> str:
    """The report."""
    killed = [kill for kill in kills if kill.killed]
    bad = [outcome for outcome in outcomes if outcome.troubles]
    lines = [
        "# Random kills",
        "",
        f"`{command}`, {datetime.now(UTC):%Y-%m-%d}: {len(killed)} kills of {len(outcomes)} runs; "
        f"{len(outcomes) - len(bad)} of them ended as the undisturbed run did, to the last bit, with nothing twice.",
        "",
        "| case | undisturbed, s | runs | kills | survived |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for case, taken in seconds.items():
        of_case = [outcome for outcome in outcomes if outcome.case == case]
        number = sum(outcome.kills for outcome in of_case)
        fine = sum(not outcome.troubles for outcome in of_case)
        lines.append(f"| {case} | {taken:.1f} | {len(of_case)} | {number} | {fine} |")
    if bad:
        lines += ["", "## What was not as it should be", ""]
        lines += [
            f"- run {outcome.run}, {outcome.case}: {trouble.replace(chr(10), ' ')[:400]}"
            for outcome in bad
            for trouble in outcome.troubles[:5]
        ]
    lines += ["", "## Every kill", "", "| run | case | after, s | what was there |", "| ---: | --- | ---: | --- |"]
    lines += [f"| {kill.run} | {kill.case} | {kill.seconds:.3f} | {kill.there} |" for kill in killed]
    return "\n".join([*lines, ""])


def written(path: Path, kills: list[Kill], outcomes: list[Outcome], seconds: dict[str, float], command: str) -> None:
    """Write the report, in the form that the name of the file says."""
    facts = {"command": command, "seconds": seconds, "kills": list(map(asdict, kills))}
    if path.suffix == ".json":
        path.write_text(json.dumps({**facts, "outcomes": list(map(asdict, outcomes))}, indent=1) + "\n")
    else:
        path.write_text(markdown(kills, outcomes, seconds, command), encoding="utf-8")


def warm() -> None:
    """Pay for the imports that every command needs, once."""
    import trl  # noqa: F401
    from trl import SFTTrainer  # noqa: F401

    import rlreason.tasks.report
    import rlreason.tasks.train  # noqa: F401


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, required=True, metavar="N", help="how many kills in all")
    parser.add_argument("--seed", type=int, required=True, metavar="S", help="draws the moments")
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES), help=", ".join(CASES))
    parser.add_argument("--folder", type=Path, help="where to run; a temporary folder by default")
    parser.add_argument("--report", type=Path, help="file for the report, .md or .json")
    asked = parser.parse_args()
    try:
        place = take((asked.folder or Path(tempfile.mkdtemp(prefix="rlreason-faults-"))).resolve())
    except ValueError as error:
        parser.error(str(error))
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    warm()
    command = f"python -m tests.faults --kills {asked.kills} --seed {asked.seed}"
    command += f" --case {' '.join(asked.case)}" if asked.case != list(CASES) else ""
    whole = place / "undisturbed"
    seconds: dict[str, float] = {}
    kills: list[Kill] = []
    outcomes: list[Outcome] = []
    moments = random.Random(asked.seed)
    while (done := sum(kill.killed for kill in kills)) < asked.kills:
        number = len(outcomes)
        case = asked.case[number % len(asked.case)]
        seconds[case] = undisturbed(whole, case)
        folder = place / f"{number}-{case}"
        new, outcome = survive(folder, whole, case, number, seconds[case], asked.kills - done, moments)
        kills += new
        outcomes.append(outcome)
        survived = outcome.troubles[0][:300] if outcome.troubles else "as undisturbed"
        print(f"run {number}, {case}: {outcome.kills} kills, {survived}", flush=True)
        if not outcome.troubles:
            shutil.rmtree(folder)
        if asked.report:
            written(asked.report, kills, outcomes, seconds, command)
    failed = sum(bool(outcome.troubles) for outcome in outcomes)
    print(f"{len(outcomes) - failed} of {len(outcomes)} runs survived{f'; see {place}' if failed else ''}")
    if not failed and asked.folder is None:
        shutil.rmtree(place)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
