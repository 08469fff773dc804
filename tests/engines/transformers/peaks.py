"""Loads a model of 75 million random weights in several ways, and tells the memory that each took, as one JSON object.

Run by an interpreter that has Transformers:

    python peaks.py SOURCES FOLDER TOKENIZER

SOURCES: the folder that holds `uml`. FOLDER: where the model is made. TOKENIZER: a folder that has one.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WAYS: Mapping[str, Mapping[str, Any]] = {
    "as it is": {},
    "in float32": {"dtype": "float32"},
    "not mapped": {"mmap": False},
    "quantized": {"quantize": "bnb-int8"},
}


def make(folder: Path, tokenizer: Path) -> None:
    """Its table is larger than what is packed at a time."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.set_default_dtype(torch.bfloat16)
    config = Qwen2Config(
        vocab_size=32_000,
        hidden_size=768,
        intermediate_size=2304,
        num_hidden_layers=8,
        num_attention_heads=12,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        dtype="bfloat16",
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    torch.set_default_dtype(torch.float32)
    for path in tokenizer.iterdir():
        if "tokenizer" in path.name or path.suffix == ".jinja":
            shutil.copy(path, folder)


def load(folder: Path, asked: Mapping[str, Any]) -> dict[str, int]:
    """Bytes of this process: at most, when it is done with all that it does for a load, and of the model's files."""
    from uml.core.engine import Endpoint
    from uml.core.model import Model
    from uml.core.options import LoadOptions
    from uml.core.plan import Footprint, LoadPlan, Placement
    from uml.engines import handover
    from uml.engines.transformers.host import TransformersHost
    from uml.formats import inspect
    from uml.runtime.taken import file_bytes, look

    options = LoadOptions.parse(
        {"ctx": 64, "parallel": 1, "batch": 512, "threads": 2, "engine": "transformers", **asked}
    )
    model = Model("m", inspect(folder))
    # 5: the highest is as it is now (proc_pid_clear_refs(5)).
    Path("/proc/self/clear_refs").write_text("5")
    host = TransformersHost()
    plan = LoadPlan(model, "transformers", options, Footprint(0, 0, 0), Placement({"cpu": 0}))
    # A worker knows of a model what it is handed.
    host.load(handover.from_line(handover.to_line(plan, Endpoint("t", host="127.0.0.1", port=1))).plan)
    runs, packing = host._runs, host._packing
    assert runs is not None
    runs.between_steps(lambda: None).result()
    if packing is not None:
        packing.wait()
    found = look(os.getpid())
    assert found is not None
    pages = file_bytes(os.getpid(), model.info.files)
    return {"highest": found.peak_bytes, "stays": found.resident_bytes, "pages": pages}


def main(folder: Path, tokenizer: Path) -> dict[str, Any]:
    # Once for all ways, each of which is a process of its own.
    for name in ("bitsandbytes", "transformers.models.qwen2.modeling_qwen2", "uml.engines.transformers.host"):
        importlib.import_module(name)
    child = os.fork()
    if not child:
        make(folder, tokenizer)
        os._exit(0)
    os.waitpid(child, 0)
    told = {}
    for name, asked in WAYS.items():
        ours, theirs = os.pipe()
        child = os.fork()
        if not child:
            os.write(theirs, json.dumps(load(folder, asked)).encode())
            os._exit(0)
        os.close(theirs)
        with os.fdopen(ours) as answer:
            told[name] = json.loads(answer.read())
        os.waitpid(child, 0)
    return told


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    answer = main(Path(sys.argv[2]), Path(sys.argv[3]))
    json.dump(answer, sys.stdout)
