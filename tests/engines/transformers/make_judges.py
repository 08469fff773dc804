"""Makes tiny models that sort texts and rank documents, and tells what Transformers makes of them, text by text:

    python make_judges.py FOLDER SOURCE < '{"texts": [...], "query": "..."}'

SOURCE: the demo model as safetensors; its tokenizer serves every model here. Writes `FOLDER/NAME/` each, and to
standard output one JSON object: name -> scores of the texts, `alone` and as `pairs` with the query.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}


def main(folder: Path, source: Path) -> None:
    import torch
    import transformers as hf
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    tokenizer = hf.AutoTokenizer.from_pretrained(source)
    asked = json.load(sys.stdin)
    common: dict[str, Any] = {**SMALL, "vocab_size": len(tokenizer), "pad_token_id": 0}
    moods = {"id2label": {0: "good", 1: "bad", 2: "plain"}}
    made = {
        "moods": hf.BertForSequenceClassification(hf.BertConfig(**common, **moods)),
        "ranker": hf.BertForSequenceClassification(hf.BertConfig(**common, num_labels=1)),
        # A decoder's score is that of its last token: what is filled up behind it must not count. Nobody says here
        # which token that is done with.
        "topics": hf.LlamaForSequenceClassification(
            hf.LlamaConfig(**{**common, "pad_token_id": None}, num_labels=2, problem_type="multi_label_classification")
        ),
        "stars": hf.BertForSequenceClassification(hf.BertConfig(**common, num_labels=1, problem_type="regression")),
    }
    told: dict[str, Any] = {}
    for seed, (name, model) in enumerate(made.items()):
        torch.manual_seed(seed)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.3)
        model.eval().save_pretrained(folder / name)
        for path in source.iterdir():
            if "tokenizer" in path.name:
                shutil.copy(path, folder / name)

        def scores(*text: str, model: Any = model) -> list[float]:
            with torch.no_grad():
                found: list[float] = model(**tokenizer(*text, return_tensors="pt")).logits[0].tolist()
            return found

        told[name] = {
            "alone": [scores(text) for text in asked["texts"]],
            "pairs": [scores(asked["query"], text) for text in asked["texts"]],
        }
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
