"""Peak memory of one training step, tensor by tensor.

A step has a few moments that can be its peak; the heaviest counts. What is alive at each was read in the code that runs
(transformers' Llama, trl's chunked log-probs, torch's autocast) and agrees with what torch's allocator held, byte for
byte in most places (docs/log.md): weights are float32 under bfloat16 autocast, so norms and the residual stream are
float32, every linear map saves a bfloat16 copy of its input, and autocast keeps a bfloat16 copy of every weight.
Adam holds two moments of 4 bytes. Splitting follows ZeRO (Rajbhandari et al. 2020, arXiv 1910.02054, figure 1).
"""

from __future__ import annotations

from dataclasses import dataclass

from rlreason.models.logprobs import LOGITS_AT_ONCE
from rlreason.planning.shape import ModelShape

KINDS = ("weights", "gradients", "optimizer", "bfloat16 copies", "activations", "logits")
Kinds = dict[str, float]
# trl.kernels.chunked_logprob: tokens and vocabulary columns that are projected at a time.
TOKEN_CHUNK = 4096
VOCABULARY_CHUNK = 32768
# Numbers of 4 bytes and flags of 1 that its torch version keeps for each logit of a chunk, forward and backward; on
# CUDA a Triton kernel works in place.
CHUNK_FORWARD, CHUNK_BACKWARD = 12, 29
# log_softmax of logits with a gradient: its input, scaled input, output and their gradients, 4 bytes each.
ON_POLICY_LOGITS = 16
# In the outcome reward model: bfloat16 logits, their float32 copy and its log_softmax.
OUTCOME_LOGITS = 10


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """What decides the memory of one training step on one process.

    Args:
        sequences: Sequences of a forward pass.
        length: Tokens of each, prompt and completion.
        completion: Of those, tokens of the completion.
        accumulation: Forward passes of an optimizer step.
        rank: Rank of LoRA adapters; 0 trains all weights.
        checkpointing: Whether activations are computed again in the backward pass.
        loss: chunked (supervised), on-policy, outcome, or value (a critic's head).
        mixed: Whether bfloat16 is fast here, so that autocast is on.
        cuda: Whether it runs on a GPU.
        processes: Processes that train together.
        sharding: none or fsdp2.
        offload: Whether what is split lies in main memory.
    """

    sequences: int
    length: int
    completion: int
    accumulation: int = 1
    rank: int = 0
    checkpointing: bool = False
    loss: str = "chunked"
    mixed: bool = True
    cuda: bool = False
    processes: int = 1
    sharding: str = "none"
    offload: bool = False

    @property
    def tokens(self) -> int:
        """Of a forward pass."""
        return self.sequences * self.length

    @property
    def half(self) -> bool:
        """Whether the residual stream is bfloat16."""
        return self.mixed and (self.rank > 0 or self.sharding != "none")


def states(shape: ModelShape, step: TrainingStep) -> Kinds:
    """Bytes of weights, gradients and optimizer states of one process, wherever they lie.

    With DDP the buckets that gradients are sent in count as gradients.
    """
    trained = shape.adapters(step.rank) if step.rank else shape.parameters
    frozen = (2 if step.mixed else 4) * shape.parameters if step.rank else 0
    split_over = step.processes if step.sharding != "none" else 1
    buckets = 2 if step.sharding == "none" and step.processes > 1 else 1
    return {
        "weights": (frozen + 4 * trained) / split_over,
        "gradients": buckets * 4 * trained / split_over,
        "optimizer": 8 * trained / split_over,
    }


def layer_activations(shape: ModelShape, step: TrainingStep) -> float:
    """Bytes that one layer saves for its backward pass, for each token."""
    hidden, inner, queries, keys = shape.hidden_size, shape.intermediate_size, shape.query_width, shape.key_width
    statistics = 4 * shape.heads + 8  # log-sum-exp of attention, inverse deviations of both norms
    if step.rank and step.mixed:
        # Norms save a float32 copy; every adapter saves a bfloat16 copy of its input and its low-rank output.
        return 18 * hidden + 6 * queries + 4 * keys + 8 * inner + 14 * step.rank + statistics
    if step.rank:
        return 16 * hidden + 8 * queries + 8 * keys + 16 * inner + 28 * step.rank + statistics
    if step.half:
        return 16 * hidden + 4 * queries + 4 * keys + 8 * inner + statistics
    if step.mixed:
        # Two norms save input and normalised input in float32; five maps save a bfloat16 copy each of what they read.
        return 26 * hidden + 4 * queries + 4 * keys + 8 * inner + statistics
    return 24 * hidden + 8 * queries + 8 * keys + 16 * inner + statistics


def training_peak(shape: ModelShape, step: TrainingStep) -> Kinds:
    """What is alive on the device of one process at the heaviest moment of a training step; bytes by `KINDS`."""
    held = states(shape, step)
    if step.offload:
        held = dict.fromkeys(held, 0.0)
    gradients = held["gradients"]
    earlier = gradients if step.accumulation > 1 else 0.0
    layer = layer_activations(shape, step) * step.tokens
    residual = (2 if step.half else 4) * shape.hidden_size * step.tokens
    saved = shape.layers * (residual if step.checkpointing else layer)
    tail = last_norm(shape, step) * step.tokens
    copies, one_copy = weight_copies(shape, step)
    forward, backward, head = logits(shape, step)
    largest = max(inputs * outputs for inputs, outputs in shape.layer_maps)
    flowing = step.tokens * (6 * shape.intermediate_size + 8 * shape.hidden_size)  # gradients inside an MLP
    of_weights = 0 if step.rank else (6 if step.mixed else 4)
    recomputed, recopied = (layer, one_copy) if step.checkpointing else (0.0, copies)
    again = not step.rank and (shape.tied or step.accumulation > 1)
    if step.loss == "on-policy" and step.checkpointing:
        forward = 0.0  # autocast ends before the output layer, and its copies with it
    table = 4.0 * shape.embedding * again  # the gradient of the embedding is dense, and added to what is there

    moments = (  # gradients, bfloat16 copies, activations, logits
        (earlier, copies, saved + tail, forward),  # forward pass of the output layer
        (earlier, 0.0 if step.checkpointing else copies, saved + tail, backward),  # its backward pass
        (earlier, recopied, saved + recomputed + flowing + of_weights * largest, head),  # that of the last layer
        (gradients, one_copy, layer, table),  # that of the first layer
        (gradients, 0.0, 0.0, 0.0),  # the optimizer
    )
    gradients, copies, activations, output = max(moments, key=sum)
    amounts = (held["weights"], gradients, held["optimizer"], copies, activations, output)
    return dict(zip(KINDS, amounts, strict=True))


def weight_copies(shape: ModelShape, step: TrainingStep) -> tuple[float, float]:
    """Bytes of the bfloat16 copies of all weights that are alive together, and of one layer's.

    Split weights are gathered one layer ahead of the one that computes, and the embedding with the output layer as a
    whole; autocast copies every trained weight once a forward pass.
    """
    if step.sharding != "none" and step.processes > 1:
        gathered = 2 * (2 * shape.layer_weights + shape.embedding * (1 if shape.tied else 2))
        return float(gathered), float(gathered)
    if not step.mixed:
        return 0.0, 0.0
    all_layers = shape.adapters(step.rank) if step.rank else shape.layers * shape.layer_weights
    return 2.0 * all_layers, 2.0 * all_layers / shape.layers


def last_norm(shape: ModelShape, step: TrainingStep) -> float:
    """Bytes from the last norm to the output layer, and of the gradient on the way back, for each token."""
    if step.half:
        return (10 if step.rank else 12) * shape.hidden_size
    return (18 if step.mixed else 16) * shape.hidden_size


def logits(shape: ModelShape, step: TrainingStep) -> tuple[float, float, float]:
    """Bytes around the output layer: forward, backward, and of its weights' gradient alone."""
    if step.loss == "value":
        return 0.0, 0.0, 0.0
    vocabulary = shape.vocabulary_size
    head = 0.0 if step.rank else 4.0 * shape.embedding
    if step.loss == "on-policy":
        whole = float(ON_POLICY_LOGITS * logits_at_once(step.sequences * step.completion, vocabulary))
        return whole, whole + head, head
    if step.loss == "outcome":
        whole = float(OUTCOME_LOGITS * logits_at_once(step.sequences * step.completion, vocabulary))
        copy = 2.0 * shape.embedding if step.mixed and not step.rank else 0.0
        return whole + copy, whole + copy + head, head + copy
    # Triton scores the learned positions alone, torch all of them.
    scored = min(TOKEN_CHUNK, step.sequences * step.completion if step.cuda else step.tokens)
    columns = min(vocabulary, VOCABULARY_CHUNK)
    size = 2 if step.mixed else 4
    tile = float(scored * size * VOCABULARY_CHUNK)
    copy = 0.0 if step.half or not step.mixed else 2.0 * columns * shape.hidden_size
    folded = 0 if step.cuda else scored * columns
    return tile + copy + CHUNK_FORWARD * folded, tile + copy + CHUNK_BACKWARD * folded + head, head


def logits_at_once(tokens: int, vocabulary: int) -> int:
    """Logits of so many tokens that are in memory together; see models.logprobs."""
    return min(tokens, max(1, LOGITS_AT_ONCE // vocabulary)) * vocabulary


def generation_bytes(shape: ModelShape, size: int) -> float:
    """Bytes of the weights of an engine at `size` bytes a number; vLLM gets a tied output layer of its own."""
    return float(size * (shape.parameters + shape.embedding * shape.tied))
