"""Runs `rlreason` commands in forks of one process that has paid for the heavy imports, for the tests.

Each line of standard input is a JSON object: `arguments`, `folder` (where to run), `output` (file for what the
command prints) and `kill` (where the command kills itself with SIGKILL, or null). Each answer is the exit code.

With `script` that file gets the arguments instead. With `function` ("MODULE:NAME" of the tests) that function gets
them, in as many processes as `processes` says, which find each other as those of torchrun do; the answer is the first
exit code that is not 0.

`kill` is "before STAGE" or "after STAGE" (around the journal line of a stage), "sampling STAGE N" (after the Nth
batch of finished rollouts of a stage), "training STEP" (after that optimizer step) or "judging STEP" (the same in the
training of an outcome reward model).
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def install(kill: str) -> None:
    from rlreason.lab import shared, updating
    from rlreason.orm import training
    from rlreason.run import folder, store

    where, *rest = kill.split()
    if where in ("before", "after"):
        original = folder.Run.commit

        def commit(self, stage, **facts):
            if stage.name == rest[0] and where == "before":
                die()
            record = original(self, stage, **facts)
            if stage.name == rest[0]:
                die()
            return record

        folder.Run.commit = commit
    elif where == "sampling":
        append, count = store.PartWriter.append, [0]

        def append_and_die(self, rollouts):
            append(self, rollouts)
            if rest[0] in self._file.name.rsplit("/", 1)[-1].split(".part")[0]:
                count[0] += 1
                if count[0] == int(rest[1]):
                    die()

        store.PartWriter.append = append_and_die
    elif where in ("training", "judging"):
        modules, name = (
            ((updating, shared), "supervised_update") if where == "training" else ((training,), "outcome_update")
        )
        original_update = getattr(modules[0], name)

        def update(*arguments, progress):
            def progress_and_die(step, steps, loss):
                progress(step, steps, loss)
                if step == int(rest[0]):
                    die()

            return original_update(*arguments, progress=progress_and_die)

        for module in modules:
            setattr(module, name, update)
    else:
        raise ValueError(kill)


def command(job: dict) -> None:
    sys.path.insert(0, job["folder"])  # as PYTHONPATH=. does
    sys.argv = ["rlreason", *job["arguments"]]
    if job["kill"]:
        install(job["kill"])
    from rlreason.cli import main

    main()


def script(job: dict) -> None:
    sys.argv = [job["script"], *job["arguments"]]
    runpy.run_path(job["script"], run_name="__main__")


def one_of_several(job: dict, rank: int, port: int) -> None:
    if (count := job["processes"]) > 1:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count), LOCAL_WORLD_SIZE=str(count))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    module, _, name = job["function"].partition(":")
    getattr(importlib.import_module(module), name)(*job["arguments"])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def child(job: dict, work: Callable[[dict], None] = command) -> None:
    log = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(job["folder"])
    code = 0
    try:
        work(job)
    except SystemExit as ending:
        code = int(ending.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def serve() -> None:
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    import trl  # noqa: F401
    from trl import SFTTrainer  # noqa: F401

    import rlreason.tasks.evaluate
    import rlreason.tasks.train  # noqa: F401

    with contextlib.suppress(ImportError):
        from vllm import LLM  # noqa: F401
    gc.collect()
    gc.freeze()  # what is imported is not walked through again whenever a command collects garbage
    for line in sys.stdin:
        job = json.loads(line)
        open(job["output"], "w").close()
        if "function" in job:
            port = free_port()
            works = [partial(one_of_several, rank=rank, port=port) for rank in range(job["processes"])]
        else:
            works = [script if "script" in job else command]
        pids = []
        for work in works:
            pids.append(os.fork())
            if pids[-1] == 0:
                child(job, work)
        print(json.dumps(ended(pids)), flush=True)


def ended(pids: list[int]) -> int:
    """The first exit code that is not 0; a process that waits for one that is gone is ended."""
    waiting, first = set(pids), 0
    while waiting:
        pid, status = os.waitpid(-1, 0)
        waiting.discard(pid)
        code = os.waitstatus_to_exitcode(status)
        if code != 0 and first == 0:
            first = code
            for other in waiting:
                os.kill(other, signal.SIGTERM)
    return first


if __name__ == "__main__":
    serve()
    os._exit(0)  # without taking apart what was imported
