"""What llama.cpp says of a GGUF file: scores of tokens, vectors, and how it cuts texts. A process of its own.

`python -m tests.runtime.conversions.llamacpp_reads QUESTION.json` with the path of a model and `tokens` or `texts`;
the answer is JSON on the last line. Everything is computed in float32, without flash attention.
"""

from __future__ import annotations

import ctypes as c
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uml.engines.llamacpp.dryrun_child import Engine
from uml.engines.llamacpp.dryrun_library import library_path
from uml.engines.llamacpp.perplexity_child import Batch

MEAN = 1


def scores(model: Path, tokens: Sequence[int]) -> list[list[float]]:
    """Scores of the whole vocabulary after each token."""
    found: list[list[float]] = _ask({"path": str(model), "tokens": list(tokens)})
    return found


def vector(model: Path, tokens: Sequence[int]) -> list[float]:
    """The mean of what an encoder makes of tokens."""
    found: list[float] = _ask({"path": str(model), "tokens": list(tokens), "vector": True})
    return found


def rank(model: Path, tokens: Sequence[int]) -> float:
    """The score of a reranker, which knows itself that it is one."""
    found: list[float] = _ask({"path": str(model), "tokens": list(tokens), "vector": True, "rank": True})
    return found[0]


def cut(model: Path, texts: Sequence[str], *, special: bool) -> list[list[int]]:
    """The tokens of each text. special: with what begins and ends a text, and with tokens that control."""
    found: list[list[int]] = _ask({"path": str(model), "texts": list(texts), "special": special})
    return found


def _ask(question: dict[str, Any]) -> Any:
    asked = Path(question["path"]).with_suffix(".question.json")
    asked.write_text(json.dumps(question))
    argv = (sys.executable, "-m", "tests.runtime.conversions.llamacpp_reads", str(asked))
    said = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, "GGML_NO_BACKTRACE": "1"})
    assert said.returncode == 0, said.stderr[-2000:]
    return json.loads(said.stdout.splitlines()[-1])


class Model:
    """A model that is loaded."""

    def __init__(self, path: str, *, vocabulary_only: bool) -> None:
        engine = Engine(str(library_path()))
        self.library: Any = engine.library
        self._log = engine.log
        for name, result, arguments in (
            ("llama_model_get_vocab", c.c_void_p, (c.c_void_p,)),
            ("llama_vocab_n_tokens", c.c_int32, (c.c_void_p,)),
            (
                "llama_tokenize",
                c.c_int32,
                (c.c_void_p, c.c_char_p, c.c_int32, c.c_void_p, c.c_int32, c.c_bool, c.c_bool),
            ),
            ("llama_decode", c.c_int32, (c.c_void_p, Batch)),
            ("llama_get_logits_ith", c.POINTER(c.c_float), (c.c_void_p, c.c_int32)),
            ("llama_get_embeddings_seq", c.POINTER(c.c_float), (c.c_void_p, c.c_int32)),
            ("llama_model_n_embd", c.c_int32, (c.c_void_p,)),
        ):
            function = getattr(self.library, name)
            function.restype, function.argtypes = result, arguments
        how = self.library.llama_model_default_params()
        how.n_gpu_layers, how.vocab_only = 0, vocabulary_only
        self.model = self.library.llama_model_load_from_file(os.fsencode(path), how)
        assert self.model, self._log.complaints
        self.vocabulary = self.library.llama_model_get_vocab(self.model)

    def cut(self, text: str, special: bool) -> list[int]:
        """Tokens of a text."""
        raw = text.encode()
        out = (c.c_int32 * (2 * len(raw) + 16))()
        count = self.library.llama_tokenize(self.vocabulary, raw, len(raw), out, len(out), special, special)
        assert count >= 0
        return list(out[:count])

    def said(self, tokens: list[int], vector: bool, rank: bool) -> Any:
        """Scores after each token, or one vector, or the score of a reranker."""
        how = self.library.llama_context_default_params()
        how.n_ctx = how.n_batch = how.n_ubatch = 256
        how.n_outputs_max = how.n_outputs_max_per_seq = 0
        how.n_threads = how.n_threads_batch = 1
        how.flash_attn_type, how.type_k, how.type_v, how.embeddings = 0, 0, 0, vector
        if vector and not rank:
            how.pooling_type = MEAN
        context = self.library.llama_init_from_model(self.model, how)
        assert context, self._log.complaints
        ids = (c.c_int32 * len(tokens))(*tokens)
        wanted = (c.c_int8 * len(tokens))(*([1] * len(tokens)))
        assert self.library.llama_decode(context, Batch(len(tokens), ids, None, None, None, None, wanted)) == 0
        if vector:
            found = self.library.llama_get_embeddings_seq(context, 0)
            return found[: 1 if rank else self.library.llama_model_n_embd(self.model)]
        size = self.library.llama_vocab_n_tokens(self.vocabulary)
        return [self.library.llama_get_logits_ith(context, at)[:size] for at in range(len(tokens))]


def main(path: str) -> None:
    """Answer one question."""
    question = json.loads(Path(path).read_text())
    model = Model(question["path"], vocabulary_only="texts" in question)
    if "texts" in question:
        answer: Any = [model.cut(text, question["special"]) for text in question["texts"]]
    else:
        answer = model.said(question["tokens"], bool(question.get("vector")), bool(question.get("rank")))
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1])
