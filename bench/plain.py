"""`python -m bench.plain ENGINE`: a round of expert iteration as a good engineer would write it, without this package.

Sampling by `transformers.generate` or `vllm.LLM`, grading by math-verify, training by `SFTTrainer` with its defaults,
then the greedy answers of the test questions with the new weights. Prints the seconds of each part as JSON; imports and
the start of the first engine are in none of them.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

BATCH = 64  # prompts that `generate` is given at once


class Transformers:
    """Samples by `generate`."""

    def __init__(self, model: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.model = AutoModelForCausalLM.from_pretrained(model)
        self.tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")

    def texts(self, prompts: list[str], samples: int, temperature: float, tokens: int) -> list[list[str]]:
        """The completions of each prompt."""
        found = []
        for first in range(0, len(prompts), BATCH):
            encoded = self.tokenizer(prompts[first : first + BATCH], return_tensors="pt", padding=True)
            encoded.pop("token_type_ids", None)
            how: dict[str, Any] = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {}
            drawn = self.model.generate(**encoded, max_new_tokens=tokens, num_return_sequences=samples, **how)
            texts = self.tokenizer.batch_decode(drawn[:, encoded["input_ids"].shape[1] :], skip_special_tokens=True)
            found += [texts[number : number + samples] for number in range(0, len(texts), samples)]
        return found


class VLLM:
    """Samples by `LLM.generate`."""

    def __init__(self, model: Path) -> None:
        from vllm import LLM

        # Half of what vLLM would take on a CPU is plenty, and two of them have to fit.
        self.llm = LLM(str(model), dtype="float32", max_model_len=416, kv_cache_memory_bytes=2**30, seed=0)

    def texts(self, prompts: list[str], samples: int, temperature: float, tokens: int) -> list[list[str]]:
        """The completions of each prompt."""
        from vllm import SamplingParams

        outputs = self.llm.generate(prompts, SamplingParams(n=samples, temperature=temperature, max_tokens=tokens))
        return [[choice.text for choice in output.outputs] for output in outputs]


def is_right(text: str, gold: str) -> bool:
    """Whether the last answer of a completion is the gold one."""
    from math_verify import parse, verify

    return bool(verify(parse(gold), parse(text.rpartition("####")[2])))


def learn(model: Path, solutions: list[tuple[str, str]], epochs: int, rate: float, batch: int, to: Path) -> None:
    """Fine-tune with what SFTTrainer does by itself."""
    import torch
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from rlreason.models.loading import bfloat16_is_fast

    machine = {"use_cpu": not torch.cuda.is_available(), "bf16": bfloat16_is_fast()}
    size = SFTConfig(output_dir=str(to), **machine).per_device_train_batch_size
    settings = SFTConfig(
        **machine,
        output_dir=str(to),
        num_train_epochs=epochs,
        learning_rate=rate,
        gradient_accumulation_steps=max(1, batch // size),
        report_to=[],
        save_strategy="no",
    )
    rows = Dataset.from_list([{"prompt": prompt, "completion": text} for prompt, text in solutions])
    trainer = SFTTrainer(str(model), settings, train_dataset=rows)
    trainer.train()
    trainer.save_model(str(to))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=("transformers", "vllm"))
    parser.add_argument("work", type=Path, help="JSON of bench.rounds")
    parser.add_argument("scratch", type=Path)
    options = parser.parse_args()
    work = json.loads(options.work.read_text(encoding="utf-8"))
    kind = {"transformers": Transformers, "vllm": VLLM}[options.engine]
    model, tokens = Path(work["model"]), work["tokens"]
    engine: Any = kind(model)
    seconds: dict[str, float] = {}

    def done(part: str, began: float) -> None:
        seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - began

    began = time.perf_counter()
    engine.texts([prompt for prompt, _ in work["test"]], 1, 0.0, tokens)
    done("evaluate", began)
    began = time.perf_counter()
    drawn = engine.texts([prompt for prompt, _ in work["train"]], work["samples"], 1.0, tokens)
    done("sample", began)
    began = time.perf_counter()
    right = {
        (prompt, text)
        for (prompt, gold), texts in zip(work["train"], drawn, strict=True)
        for text in texts
        if is_right(text, gold)
    }
    done("grade", began)
    began = time.perf_counter()
    learn(model, sorted(right), work["epochs"], work["learning_rate"], work["batch_size"], options.scratch)
    done("train", began)
    began = time.perf_counter()
    del engine
    engine = kind(options.scratch)
    done("sync", began)
    began = time.perf_counter()
    answers = engine.texts([prompt for prompt, _ in work["test"]], 1, 0.0, tokens)
    done("evaluate", began)
    began = time.perf_counter()
    solved = sum(is_right(texts[0], gold) for (_, gold), texts in zip(work["test"], answers, strict=True))
    done("grade", began)
    print(json.dumps({"seconds": seconds, "right": len(right), "test_accuracy": solved / len(work["test"])}))


if __name__ == "__main__":
    main()
