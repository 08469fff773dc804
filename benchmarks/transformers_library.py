"""What Transformers does by itself: run by the interpreter of its install, in a process of its own.

python transformers_library.py make FOLDER TOKENIZER        a model of 0.5 billion random weights
python transformers_library.py generate MODEL TOKENS THREADS    how soon `generate` is there, and how fast
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

PROMPT = "zebra lantern cloud river stone apple window garden"


def make(folder: Path, tokenizer: Path) -> None:
    """Qwen2.5-0.5B's shape in bfloat16, with a tokenizer that knows its first tokens."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(1)
    torch.set_default_dtype(torch.bfloat16)
    config = Qwen2Config(
        vocab_size=151_936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=32_768,
        tie_word_embeddings=True,
        eos_token_id=2,
        pad_token_id=0,
        bos_token_id=None,
        dtype="bfloat16",
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    for path in tokenizer.iterdir():
        if "tokenizer" in path.name or path.suffix == ".jinja":
            shutil.copy(path, folder)


def generate(model: Path, tokens: int, threads: int) -> None:
    """Print the seconds until it is ready, and for each line that comes the tokens per second of one answer."""
    began = time.perf_counter()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(threads)
    found = AutoModelForCausalLM.from_pretrained(model, dtype="auto").eval()
    words = AutoTokenizer.from_pretrained(model)
    print(time.perf_counter() - began, flush=True)
    text = words.apply_chat_template([{"role": "user", "content": PROMPT}], add_generation_prompt=True, tokenize=False)
    ids = torch.tensor([words(text)["input_ids"]])
    for _ in sys.stdin:
        start = time.perf_counter()
        found.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
            pad_token_id=0,
        )
        print(tokens / (time.perf_counter() - start), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        generate(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
