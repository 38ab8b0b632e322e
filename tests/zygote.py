"""Runs `rlreason` commands in forks of one process that has paid for the heavy imports, for the tests.

Each line of standard input is a JSON object: `arguments`, `folder` (where to run), `output` (file for what the
command prints) and `kill` (where the command kills itself with SIGKILL, or null). Each answer is the exit code.

`kill` is "before STAGE" or "after STAGE" (around the journal line of a stage), "sampling STAGE N" (after the Nth
batch of finished rollouts of a stage), "training STEP" (after that optimizer step) or "judging STEP" (the same in the
training of an outcome reward model).
"""

import contextlib
import json
import os
import signal
import sys


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


def child(job: dict) -> None:
    log = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(job["folder"])
    sys.path.insert(0, job["folder"])  # as PYTHONPATH=. does
    sys.argv = ["rlreason", *job["arguments"]]
    if job["kill"]:
        install(job["kill"])
    from rlreason.cli import main

    code = 0
    try:
        main()
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
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            child(job)
        _, status = os.waitpid(pid, 0)
        print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)


if __name__ == "__main__":
    serve()
