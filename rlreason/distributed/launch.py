"""Starts the processes of a run that trains with several, and ends with what became of them."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rlreason.config.base import require
from rlreason.config.experiment import ExperimentConfig
from rlreason.config.sections import LauncherConfig
from rlreason.distributed import devices, ranks
from rlreason.distributed.processes import die_with_parent
from rlreason.distributed.shares import train_beside_others
from rlreason.errors import INTERRUPTED, LEFT_ALONE, USER_ERROR, Failed, UserError
from rlreason.planning.batches import batch_arithmetic, processes

STARTED_HERE = "RLREASON_STARTED"  # in the environment of processes that `start` started
ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
SECONDS_TO_MEET = 900  # for all machines to come


def wanted(config: ExperimentConfig) -> bool:
    """Whether this process is to start those that train together, and is not one of them."""
    asked_for = config.task.name == "train" and config.launcher.name == "accelerate" and processes(config) > 1
    return asked_for and "RANK" not in os.environ


def started_here() -> bool:
    """Whether `start` started this process, which the user therefore did not."""
    return STARTED_HERE in os.environ


def check(config: ExperimentConfig) -> None:
    """Refuse what the processes of a run cannot do together.

    Raises:
        UserError: They cannot share its batches, nobody starts them, or there are more of them than GPUs.
    """
    if config.task.name != "train":  # one process does it
        return
    count = ranks.size() if "RANK" in os.environ else processes(config)
    require(
        count > 1 or config.sharding.name == "none",
        f"sharding={config.sharding.name} splits the model over processes and there is one; set launcher=accelerate "
        "nproc=2 or more, or sharding=none",
    )
    if count == 1:
        return
    require(
        ranks.size() > 1 or wanted(config),
        f"nproc={config.nproc} needs launcher=accelerate, which starts the processes, or torchrun",
    )
    batch_arithmetic(config, count)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if "RANK" in os.environ else config.nproc
    found = devices.visible()
    there = devices.trainable(found)
    kinds = devices.in_words([device.kind for device in found])
    require(
        not there or here <= there,
        f"{here} training processes on this machine need a GPU each, and it has {there} for them ({kinds}); use "
        f"nproc={there} or less, or CUDA_VISIBLE_DEVICES= to train on the CPU",
    )


def start(config: LauncherConfig, on_each: int, arguments: Sequence[str]) -> None:
    """Run one job in several processes of this machine, and wait for all of them.

    Args:
        config: How many machines there are, and which is this one.
        on_each: Processes on each machine.
        arguments: The job's, as on the command line.

    Raises:
        UserError: The job ended with a mistake of the user's, or the machines do not find each other.
        Failed: A process failed or was killed; the others were ended.
        KeyboardInterrupt: The user interrupted it.
    """
    import logging

    from torch.distributed import DistNetworkError
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    alone = config.nodes == 1
    settings = LaunchConfig(
        min_nodes=config.nodes,
        max_nodes=config.nodes,
        nproc_per_node=on_each,
        rdzv_backend="c10d" if alone else "static",
        rdzv_endpoint="localhost:0" if alone else str(config.address),
        rdzv_configs={"rank": config.node_rank, "timeout": SECONDS_TO_MEET},
        run_id="rlreason",
        max_restarts=0,
        monitor_interval=0.1,
    )
    os.environ[STARTED_HERE] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # each process sets its own share
    try:
        elastic_launch(settings, sys.executable)("-m", "rlreason", *arguments, "hydra.mode=RUN")
    except ChildFailedError as error:
        raise _what_happened(error.failures, on_each * config.nodes) from None
    except SignalException:
        raise KeyboardInterrupt from None
    except (DistNetworkError, TimeoutError) as error:
        raise UserError(_unreachable(config, str(error))) from error
    finally:
        del os.environ[STARTED_HERE]


def prepare() -> None:
    """Make this process one of several: it ends with the one that started it, and keeps to its share of the cores.

    To be called before torch is imported.
    """
    if started_here():
        die_with_parent(signal.SIGKILL)
    train_beside_others(int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if ranks.rank() > 0:  # rank 0 shows the run
        sys.stdout.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def missed_another(error: Exception) -> bool:
    """Whether an error only says that another process is gone."""
    text = str(error).lower()
    return ranks.size() > 1 and any(word in text for word in ("gloo", "nccl", "connection closed by peer"))


def tell(message: str) -> bool:
    """Hand the one line that ends this process to the one that started it; whether there is one that shows it."""
    if not started_here() or ERROR_FILE not in os.environ:
        return False
    with open(os.environ[ERROR_FILE], "w", encoding="utf-8") as file:
        json.dump({"message": message}, file)
    return True


def _what_happened(failures: Mapping[int, Any], count: int) -> BaseException:
    """What to raise for the failures of processes, by rank: the cause, not those that then missed the dead one."""
    codes = {rank: failure.exitcode for rank, failure in failures.items()}
    for rank, code in codes.items():
        if code == USER_ERROR:
            return UserError(str(failures[rank].message))
    if any(code in (INTERRUPTED, -signal.SIGINT) for code in codes.values()):
        return KeyboardInterrupt()
    killed = [rank for rank, code in codes.items() if code < 0 and code != -signal.SIGTERM]
    alone = [rank for rank, code in codes.items() if code not in (LEFT_ALONE, -signal.SIGTERM)]
    first = (killed or alone or sorted(codes))[0]
    if first in killed:
        how = f"was killed by {signal.Signals(-codes[first]).name} (is there enough memory?)"
    else:
        how = f"failed: {failures[first].message}"
    return Failed(
        f"process {first} of {count} {how}; the others were ended, and the same command continues where it stopped"
    )


def _unreachable(config: LauncherConfig, reason: str) -> str:
    if "EADDRINUSE" in reason or "already in use" in reason:
        return f"launcher.address={config.address}: the port is in use; choose another one on every machine"
    return (
        f"launcher.address={config.address}: machine 0 does not answer, or not all {config.nodes} machines came within "
        f"{SECONDS_TO_MEET // 60} minutes; start the same command with its own launcher.node_rank on each"
    )
