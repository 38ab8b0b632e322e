"""What the libraries print beside us."""

from __future__ import annotations

import os
import warnings


def quiet_libraries() -> None:
    """Keep progress bars and notices of the libraries out of ours; their warnings about real trouble stay."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("VLLM_CONFIGURE_LOGGING", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module="torch")
    # The range of vLLM versions that TRL drives itself; here it is given finished rollouts.
    warnings.filterwarnings("ignore", message="TRL currently supports vLLM", category=UserWarning)
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
