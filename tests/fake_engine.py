"""An engine without a model: what a request draws follows from its seed, and checkpoints say what goes wrong."""

import os
import time
from pathlib import Path

from rlreason.errors import UserError
from rlreason.types import Problem, Rollout


def question(name):
    """A problem of which only the name matters."""
    return Problem(name, "?", "0")


def drawn(request, checkpoint):
    ids = tuple((request.seed * 31 + position) % 97 for position in range(1 + request.seed % 5))
    logprobs = (-1.0,) * len(ids)
    return Rollout(request.problem, request.sample, request.seed, request.prompt_ids, ids, logprobs, checkpoint, "stop")


class FakeEngine:
    """Generates `batch` requests at a time, one for each call of `step`, and writes down which ones it began."""

    def __init__(self, name, folder, batch=4, seconds=0.0):
        self.name = name
        self.log = Path(folder) / f"{name}.txt"
        self.batch = batch
        self.seconds = seconds
        self.checkpoint = None
        self.note(f"pid {os.getpid()}")

    def note(self, text):
        with self.log.open("a") as file:
            file.write(text + "\n")

    def load(self, checkpoint):
        if checkpoint.name == f"refused-by-{self.name}":
            raise UserError("there is too little memory; lower engine.max_sequences")
        if checkpoint.name in (f"broken-for-{self.name}", "broken-for-all"):
            raise KeyError("lm_head")
        if checkpoint.name == f"deadly-for-{self.name}":
            os.kill(os.getpid(), 9)
        if checkpoint.name == f"endless-for-{self.name}":
            time.sleep(1000)
        self.checkpoint = str(checkpoint)
        self.note(f"load {checkpoint}")

    def score(self, token_ids):
        shift = float(self.checkpoint.endswith(f"stale-in-{self.name}"))
        return tuple(-float(token) - shift for token in token_ids[1:])

    def release(self):
        self.note("release")
        if self.checkpoint == f"sleepless-in-{self.name}":
            raise AssertionError("Memory usage increased after sleeping.")

    def seen(self):
        return {
            "name": self.name,
            "cores": sorted(os.sched_getaffinity(0)),
            "environment": dict(os.environ),
            "session": os.getsid(0) == os.getpid(),
        }

    def sample_fed(self, feed, settings):
        pending = []
        while (new := feed(len(pending))) is not None:
            pending += new
            for request in new:
                self.note(f"ask {request.problem.id} {request.sample}")
            time.sleep(self.seconds)
            now, pending = pending[: self.batch], pending[self.batch :]
            if any(request.problem.id == f"refused-by-{self.name}" for request in now):
                raise UserError("that prompt is too long")
            if any(request.problem.id == f"broken-for-{self.name}" for request in now):
                raise ZeroDivisionError("in a kernel")
            if any(request.problem.id == f"deadly-for-{self.name}" for request in now):
                os.kill(os.getpid(), 9)
            if any(request.problem.id == f"endless-for-{self.name}" for request in now):
                time.sleep(1000)
            yield [drawn(request, self.checkpoint) for request in now]
        self.note(f"dropped {len(pending)}")


class BatchEngine(FakeEngine):
    """Takes all of its requests at once, as transformers does."""

    sample_fed = None

    def sample(self, requests, settings):
        self.note(f"batch {len(requests)}")
        yield [drawn(request, self.checkpoint) for request in requests]
