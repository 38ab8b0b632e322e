"""Whether a model fits this machine: arithmetic on its parameter count, before anything is downloaded.

Only what grows with the parameters is counted, and a small KV cache; activations come on top. So a model that is
refused here cannot run, and one that is let through may still turn out too large.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from rlreason.config import ModelConfig
from rlreason.errors import UserError
from rlreason.models.embedded import EMBEDDED_FOLDER

GIB = 2**30
# float32 weights, float32 gradients, and the two moments of Adam in float32.
BYTES_PER_TRAINED_PARAMETER = 16
# Enough for the engine to work on a few sequences at once; more makes it faster, not possible.
KV_CACHE_TOKENS = 4096
# Below this no accelerator is too small, and a second of importing torch is saved.
SMALL_MODEL = 1e8
SUGGESTED_RANK = 16


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """What a model takes.

    Args:
        parameters: Parameter count of the model, adapters not included.
        bytes: Memory on the device that holds the model, in bytes.
        purpose: What for, to be read after "needs about N GiB".
    """

    parameters: float
    bytes: float
    purpose: str


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the model would be held.

    Args:
        bytes: Memory for one copy of the model, in bytes.
        words: That memory in words, to be read after "this machine has".
        memory: What kind of memory it is.
        fast_bfloat16: Whether frozen weights are held in bfloat16 (see `loading.load_for_training`).
    """

    bytes: float
    words: str
    memory: str
    fast_bfloat16: bool


def needed(config: ModelConfig, training: bool, parameters: float, fast_bfloat16: bool = True) -> MemoryNeed:
    """How much memory a model takes, by its parameter count.

    Args:
        config: Says how it is held (`dtype`) and trained (`lora_rank`).
        training: Whether it is trained, or only sampled from.
        parameters: Its parameter count.
        fast_bfloat16: Whether frozen weights are held in bfloat16 rather than float32 while adapters are trained.

    Returns:
        The need; activations not included.
    """
    if not training:
        size = 4 if config.dtype == "float32" else 2
        total = size * (parameters + KV_CACHE_TOKENS * _cached_values_per_token(parameters))
        return MemoryNeed(parameters, total, f"to generate (weights: {size} bytes a parameter, and a small KV cache)")
    if config.lora_rank == 0:
        purpose = "to train all weights (weights, gradients and Adam states in float32: 16 bytes a parameter)"
        return MemoryNeed(parameters, BYTES_PER_TRAINED_PARAMETER * parameters, purpose)
    size = 2 if fast_bfloat16 else 4
    adapters = _adapter_parameters(parameters, config.lora_rank)
    purpose = f"to train LoRA adapters of rank {config.lora_rank} (frozen weights: {size} bytes a parameter)"
    return MemoryNeed(parameters, size * parameters + BYTES_PER_TRAINED_PARAMETER * adapters, purpose)


def _hidden_size(parameters: float) -> float:
    """The width of a decoder of this size: 12 * layers * width^2 parameters, and width / layers = 128 as in Llama 2."""
    return float((128 * parameters / 12) ** (1 / 3))


def _cached_values_per_token(parameters: float) -> float:
    """A key and a value of full width in each layer: exact for Llama 2, an upper bound where queries share them."""
    width = _hidden_size(parameters)
    return 2 * (width / 128) * width


def _adapter_parameters(parameters: float, rank: int) -> float:
    """Parameters of adapters on all linear maps of a Llama block.

    A map from a to b numbers takes rank * (a + b): in a block about 19 * rank * width against 12 * width^2.
    """
    return parameters * 19 * rank / (12 * _hidden_size(parameters))


def parameter_count(config: ModelConfig) -> float | None:
    """How many parameters a model has, without reading weights or the network.

    Args:
        config: `path` is believed before `parameters`, so that `model=llama7b model.path=FOLDER` counts the folder's.

    Returns:
        The count, or None when it is unknown.
    """
    if config.path.startswith("embedded:"):
        folder = EMBEDDED_FOLDER / config.path.removeprefix("embedded:")
    else:
        folder = Path(config.path).expanduser()
    files = sorted(folder.glob("model*.safetensors")) if folder.is_dir() else []
    return float(sum(map(_count_in_header, files))) if files else config.parameters


def _count_in_header(file: Path) -> int:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as weights:
            names = weights.keys()
            return sum(prod(weights.get_slice(name).get_shape()) for name in names)
    except SafetensorError as error:
        raise UserError(f"{file} is broken or cut short ({error}); copy or download the model again") from error


def check_fits(config: ModelConfig, training: bool, devices: int = 1) -> None:
    """Refuse a model that this machine cannot hold, before anything is downloaded.

    Args:
        config: The model; one of unknown size passes.
        training: Whether it is trained, or only sampled from.
        devices: GPUs that share one copy of the model.

    Raises:
        UserError: It does not fit; the message says how much is needed, how much is there, and what would fit.
    """
    parameters = parameter_count(config)
    if parameters is None:
        return
    machine = _machine(parameters, devices)
    need = needed(config, training, parameters, machine.fast_bfloat16)
    if need.bytes <= machine.bytes:
        return
    raise UserError(
        f"model={config.name} needs about {need.bytes / GIB:.0f} GiB of {machine.memory} {need.purpose} "
        f"but this machine has {machine.words}; try {_advice(config, training, parameters, machine)}"
    )


def _advice(config: ModelConfig, training: bool, parameters: float, machine: Machine) -> str:
    alternatives = ["a smaller model", "a larger machine"]
    if training and config.lora_rank == 0:
        with_adapters = replace(config, lora_rank=SUGGESTED_RANK)
        need = needed(with_adapters, training, parameters, machine.fast_bfloat16).bytes
        if need <= machine.bytes:
            alternatives.insert(0, f"model.lora_rank={SUGGESTED_RANK} (needs about {need / GIB:.0f} GiB)")
    if not training and config.dtype == "float32":
        alternatives.insert(0, "model.dtype=auto (half as much)")
    return ", ".join(alternatives[:-1]) + f" or {alternatives[-1]}"


def _machine(parameters: float, devices: int) -> Machine:
    fast_bfloat16 = False
    if parameters > SMALL_MODEL:
        import torch

        from rlreason.models.loading import bfloat16_is_fast

        fast_bfloat16 = bfloat16_is_fast()
        if torch.cuda.is_available():
            memories = [torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count())]
            sharing = min(devices, len(memories))
            memory = float(min(memories) * sharing)
            words = f"{memory / GIB:.0f} GiB on {sharing} GPU{'s' if sharing > 1 else ''}"
            return Machine(memory, words, "GPU memory", fast_bfloat16)
    memory = _main_memory()
    return Machine(memory, f"no GPU and {memory / GIB:.0f} GiB of RAM", "memory", fast_bfloat16)


def _main_memory() -> float:
    """RAM that this process may use, in bytes: a container's limit where it has one."""
    import psutil

    total = int(psutil.virtual_memory().total)
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text(encoding="ascii").strip() if limit.is_file() else "max"
    return float(min(total, int(text)) if text.isdigit() else total)
