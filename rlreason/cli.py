"""The command line: Hydra composes, this file converts once, checks, and hands over to a task.

Only what every call needs is imported here; torch, vLLM and the trainers wait until a task asks for them.
"""

from __future__ import annotations

import os
import sys

from rlreason.distributed.launch import missed_another, started_here, tell
from rlreason.errors import INTERRUPTED, LEFT_ALONE, Failed, UserError
from rlreason.jobs import config_folder, config_folders, fail, run_job


def main() -> None:
    """Entry point of `rlreason`."""
    arguments = sys.argv[1:]
    if any(argument in ("--help", "-h") for argument in arguments):
        from rlreason.help import print_help

        print_help(config_folders(arguments), [argument for argument in arguments if not argument.startswith("-")])
        return
    import hydra

    from rlreason.arguments import as_typed
    from rlreason.config.compose import register_resolvers

    # Without this Hydra prints tracebacks of its own and exits with 1; we turn errors into one line each.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # read when torch is first imported
    register_resolvers()  # `--cfg job --resolve` is answered by Hydra alone
    try:
        if not started_here():  # by a process whose arguments Hydra has read
            typed = as_typed(arguments, config_folders(arguments))
            for note in typed.notes:
                print(f"rlreason: {note}", file=sys.stderr, flush=True)
            sys.argv[1:] = typed.arguments
        hydra.main(config_path=str(config_folder()), config_name="config", version_base="1.3")(run_job)()
    except KeyboardInterrupt:
        fail("interrupted; the same command continues where it stopped", INTERRUPTED)
    except Failed as error:
        fail(str(error), error.code)
    except UserError as error:
        fail(str(error))
    except Exception as error:
        message = composition_message(error)
        if message is not None:
            fail(message)
        if missed_another(error):
            fail(f"lost another process: {error}", LEFT_ALONE)
        tell(f"{type(error).__name__}: {error}")
        raise


def composition_message(error: Exception) -> str | None:
    """What Hydra or OmegaConf objected to, in one line with the nearest names; None for any other error."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    if not isinstance(error, HydraException | OmegaConfBaseException):
        return None
    from rlreason.help import suggest

    return suggest(error, config_folders(sys.argv[1:]))
