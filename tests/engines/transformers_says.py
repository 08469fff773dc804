"""What Transformers itself makes of prompts, token by token. Run by an interpreter that has it:

    python transformers_says.py FOLDER < '{"prompts": [...], "questions": [...]}'

Writes one JSON object: `prompts` and `questions`, and of each what `tests.engines.contract.Said` has.
"""

from __future__ import annotations

import json
import sys
from typing import Any

NEW = 24
MARGIN = 1e-2
"""How far the best token must be ahead: arithmetic in another order may change what is closer."""
TOLD = 100
"""Of how many of the likeliest tokens the probabilities are added up."""


def main(folder: str) -> None:
    import torch
    import transformers as hf
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.set_verbosity_error()
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    model = hf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    asked = json.load(sys.stdin)

    def said(prompt: list[int]) -> dict[str, Any]:
        out = model.generate(
            torch.tensor([prompt]),
            max_new_tokens=NEW,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
        tokens, logits = out.sequences[0, len(prompt) :].tolist(), torch.cat(out.logits)
        best = logits.topk(2).values
        clear = (best[:, 0] - best[:, 1] > MARGIN).tolist()
        sure = clear.index(False) if False in clear else len(tokens)
        likely = logits.log_softmax(-1)
        ended = tokens[-1] == model.generation_config.eos_token_id
        tokens = tokens[:-1] if ended else tokens
        return {
            "prompt": prompt,
            "tokens": tokens[:sure],
            "whole": sure >= len(tokens),
            "text": tokenizer.decode(tokens),
            "logprobs": likely.max(-1).values.tolist()[:sure],
            "shares": likely.topk(TOLD).values.exp().sum(-1).tolist()[:sure],
        }

    def chat(question: str) -> list[int]:
        messages = [{"role": "user", "content": question}]
        return list(tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"])

    json.dump(
        {
            "prompts": [said(tokenizer(text)["input_ids"]) for text in asked["prompts"]],
            "questions": [said(chat(text)) for text in asked["questions"]],
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main(sys.argv[1])
