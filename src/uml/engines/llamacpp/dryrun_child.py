"""The child's side of a dry run: llama.cpp builds a model and a context in its mind, and tells what they would take.

Run as a file, with the standard library alone, so that it answers soon: `python -I dryrun_child.py LIBRARY
IDLE_S`. A line of JSON in is a question, a line out its answer; it ends with its input, or when nobody has
asked for IDLE_S seconds. Everything here may crash: the engine's structures are rebuilt by hand, from
`include/llama.h` of b11549, and its C++ map is read as libstdc++ lays it out. So nothing is believed unread:
the structures must hold the defaults that this build is known to have, enums must have the names that we
think they have, and the map must say what the log says. A child that dies is an answer too: no figures.

No weight is read: `no_alloc` with `load_mode` none (with mmap it aborts) reads the header and the vocabulary.
"""

from __future__ import annotations

import ctypes as c
import json
import os
import re
import select
import sys
from typing import Any, Final

F16: Final = 1
AUTO: Final = -1
MIB: Final = 1 << 20
INFO: Final = 2
ERROR: Final = 4
CONTINUED: Final = 5

TYPES: Final = {
    "f32": 0,
    "f16": 1,
    "q4_0": 2,
    "q4_1": 3,
    "q5_0": 6,
    "q5_1": 7,
    "q8_0": 8,
    "iq4_nl": 20,
    "bf16": 30,
}
"""enum ggml_type."""
MEMBERS: Final = {
    "LLAMA_FLASH_ATTN_TYPE_AUTO": -1,
    "LLAMA_FLASH_ATTN_TYPE_DISABLED": 0,
    "LLAMA_FLASH_ATTN_TYPE_ENABLED": 1,
    "LLAMA_ROPE_SCALING_TYPE_NONE": 0,
    "LLAMA_ROPE_SCALING_TYPE_LINEAR": 1,
    "LLAMA_ROPE_SCALING_TYPE_YARN": 2,
    "LLAMA_ROPE_SCALING_TYPE_LONGROPE": 3,
    "LLAMA_POOLING_TYPE_NONE": 0,
    "LLAMA_POOLING_TYPE_MEAN": 1,
    "LLAMA_POOLING_TYPE_CLS": 2,
    "LLAMA_POOLING_TYPE_LAST": 3,
    "LLAMA_POOLING_TYPE_RANK": 4,
    **{f"GGML_TYPE_{name.upper()}": value for name, value in TYPES.items()},
}
"""Enumerators by name, as in llama.h and ggml.h."""


class Override(c.Structure):
    """llama_model_tensor_buft_override."""

    _fields_ = (("pattern", c.c_char_p), ("buft", c.c_void_p))


_MODEL_PARAMS: Final = (
    ("devices", c.c_void_p, None),
    ("tensor_buft_overrides", c.c_void_p, None),
    ("n_gpu_layers", c.c_int32, -1),
    ("split_mode", c.c_int, 1),
    ("load_mode", c.c_int, AUTO),
    ("lazy_mode", c.c_int, 1),
    ("main_gpu", c.c_int32, 0),
    ("tensor_split", c.c_void_p, None),
    ("progress_callback", c.c_void_p, None),
    ("progress_callback_user_data", c.c_void_p, None),
    ("kv_overrides", c.c_void_p, None),
    ("vocab_only", c.c_bool, False),
    ("check_tensors", c.c_bool, False),
    ("use_extra_bufts", c.c_bool, True),
    ("no_host", c.c_bool, False),
    ("no_alloc", c.c_bool, False),
    ("load_mtp", c.c_bool, False),
)
"""Fields of llama_model_params with what llama_model_default_params gives."""
_CONTEXT_PARAMS: Final = (
    ("n_ctx", c.c_uint32, 512),
    ("n_batch", c.c_uint32, 2048),
    ("n_ubatch", c.c_uint32, 512),
    ("n_seq_max", c.c_uint32, 1),
    ("n_rs_seq", c.c_uint32, 0),
    ("n_outputs_max", c.c_uint32, 0),
    ("n_outputs_max_per_seq", c.c_uint32, 1),
    ("n_threads", c.c_int32, 4),
    ("n_threads_batch", c.c_int32, 4),
    ("ctx_type", c.c_int, 0),
    ("rope_scaling_type", c.c_int, AUTO),
    ("pooling_type", c.c_int, AUTO),
    ("attention_type", c.c_int, AUTO),
    ("flash_attn_type", c.c_int, AUTO),
    ("rope_freq_base", c.c_float, 0.0),
    ("rope_freq_scale", c.c_float, 0.0),
    ("yarn_ext_factor", c.c_float, -1.0),
    ("yarn_attn_factor", c.c_float, -1.0),
    ("yarn_beta_fast", c.c_float, -1.0),
    ("yarn_beta_slow", c.c_float, -1.0),
    ("yarn_orig_ctx", c.c_uint32, 0),
    ("defrag_thold", c.c_float, -1.0),
    ("cb_eval", c.c_void_p, None),
    ("cb_eval_user_data", c.c_void_p, None),
    ("type_k", c.c_int, F16),
    ("type_v", c.c_int, F16),
    ("moe_cache_size", c.c_size_t, 0),
    ("abort_callback", c.c_void_p, None),
    ("abort_callback_data", c.c_void_p, None),
    ("embeddings", c.c_bool, False),
    ("offload_kqv", c.c_bool, True),
    ("no_perf", c.c_bool, True),
    ("op_offload", c.c_bool, True),
    ("swa_full", c.c_bool, True),
    ("kv_unified", c.c_bool, False),
    ("samplers", c.c_void_p, None),
    ("n_samplers", c.c_size_t, 0),
    ("ctx_other", c.c_void_p, None),
)
"""Fields of llama_context_params with what llama_context_default_params gives."""


class ModelParams(c.Structure):
    """llama_model_params."""

    _fields_ = tuple((name, kind) for name, kind, _ in _MODEL_PARAMS)


class ContextParams(c.Structure):
    """llama_context_params."""

    _fields_ = tuple((name, kind) for name, kind, _ in _CONTEXT_PARAMS)


class Header(c.Structure):
    """The head of a `std::map` of libstdc++, `_Rb_tree_impl`: a comparator, a node without a value, a count."""

    _fields_ = (
        ("comparator", c.c_void_p),
        ("color", c.c_int),
        ("parent", c.c_void_p),
        ("left", c.c_void_p),
        ("right", c.c_void_p),
        ("count", c.c_size_t),
    )


class Node(c.Structure):
    """A node of llama_memory_breakdown: a buffer type with its bytes for the model, the context, the computation."""

    _fields_ = (
        ("color", c.c_int),
        ("parent", c.c_void_p),
        ("left", c.c_void_p),
        ("right", c.c_void_p),
        ("buft", c.c_void_p),
        ("model", c.c_size_t),
        ("context", c.c_size_t),
        ("compute", c.c_size_t),
    )


class Refused(Exception):
    """No figures, and why."""


CACHE: Final = re.compile(r"\S+: +size = +([0-9.]+) MiB")
COMPUTE: Final = re.compile(r"compute buffer size = +([0-9.]+) MiB")


class Log:
    """What the engine says: bytes of the cache and of buffers to compute in, and its complaints."""

    def __init__(self) -> None:
        self.context_bytes = self.compute_bytes = 0.0
        self.complaints: list[str] = []
        self._level, self._line = 0, ""
        self.callback = c.CFUNCTYPE(None, c.c_int, c.c_char_p, c.c_void_p)(self._hear)

    def clear(self) -> None:
        """Forget what was said."""
        self.context_bytes = self.compute_bytes = 0.0
        self.complaints.clear()

    def _hear(self, level: int, text: bytes, _user: int | None) -> None:
        if level != CONTINUED:
            self._level, self._line = level, ""
        self._line += text.decode("utf-8", "replace")
        if not self._line.endswith("\n"):
            return
        line, self._line = self._line.strip(), ""
        if self._level == ERROR:
            self.complaints.append(line)
        if found := COMPUTE.search(line):
            self.compute_bytes += float(found[1]) * MIB
        elif found := CACHE.match(line):
            self.context_bytes += float(found[1]) * MIB


class Engine:
    """The library, probed, and the model of the last question."""

    def __init__(self, path: str) -> None:
        self.log = Log()
        try:
            self.library = c.CDLL(path)
            self._declare()
        except (OSError, AttributeError) as error:
            raise Refused(f"the library cannot be used: {error}") from error
        self.library.llama_log_set(self.log.callback, None)
        self._probe()
        self.library.llama_backend_init()
        self._model: int | None = None
        self._of: object = None

    def _declare(self) -> None:
        library = self.library
        for name, result, arguments in (
            ("llama_model_default_params", ModelParams, ()),
            ("llama_context_default_params", ContextParams, ()),
            ("llama_backend_init", None, ()),
            ("llama_log_set", None, (c.c_void_p, c.c_void_p)),
            ("llama_model_load_from_file", c.c_void_p, (c.c_char_p, ModelParams)),
            ("llama_init_from_model", c.c_void_p, (c.c_void_p, ContextParams)),
            ("llama_free", None, (c.c_void_p,)),
            ("llama_model_free", None, (c.c_void_p,)),
            ("ggml_type_name", c.c_char_p, (c.c_int,)),
            ("llama_flash_attn_type_name", c.c_char_p, (c.c_int,)),
            ("llama_load_mode_name", c.c_char_p, (c.c_int,)),
            ("ggml_backend_cpu_buffer_type", c.c_void_p, ()),
            ("ggml_backend_buft_name", c.c_char_p, (c.c_void_p,)),
        ):
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments

    def _probe(self) -> None:
        """Raise Refused unless the structures hold the defaults and enums have their names."""
        library = self.library
        for params, defaults in (
            (library.llama_model_default_params(), _MODEL_PARAMS),
            (library.llama_context_default_params(), _CONTEXT_PARAMS),
        ):
            for name, _, expected in defaults:
                if getattr(params, name) != expected:
                    what = f"{type(params).__name__}.{name} is {getattr(params, name)!r}, not {expected!r}"
                    raise Refused(f"the layout of this build is unknown: {what}")
        names = {name: library.ggml_type_name(value).decode() for name, value in TYPES.items()}
        wrong = [name for name, told in names.items() if told != name]
        if wrong or library.llama_flash_attn_type_name(1) != b"enabled" or library.llama_load_mode_name(0) != b"none":
            raise Refused(f"the enums of this build are unknown: {names}")

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Bytes by buffer type, `[model, context, compute]`, and what the log said. Raises Refused."""
        model = self._load(question["path"], question["model"])
        params = self.library.llama_context_default_params()
        for name, value in question["context"].items():
            setattr(params, name, MEMBERS[value] if isinstance(value, str) else value)
        self.log.clear()
        context = self.library.llama_init_from_model(model, params)
        if not context:
            raise Refused("; ".join(self.log.complaints) or "the context could not be made")
        try:
            return {
                "buffers": self._breakdown(context) if sys.platform == "linux" else {},
                "context": self.log.context_bytes,
                "compute": self.log.compute_bytes,
            }
        finally:
            self.library.llama_free(context)

    def _load(self, path: str, settings: dict[str, Any]) -> int:
        about = os.stat(path)  # noqa: PTH116  # pathlib takes 10 ms to import
        same = (path, about.st_size, about.st_mtime_ns, json.dumps(settings, sort_keys=True))
        if self._model and self._of == same:
            return self._model
        if self._model:
            self.library.llama_model_free(self._model)
            self._model = None
        params = self.library.llama_model_default_params()
        params.no_alloc, params.load_mode, params.n_gpu_layers = True, 0, 0
        params.use_extra_bufts = settings["use_extra_bufts"]
        patterns = [text.encode() for text in settings["on_cpu"]]
        overrides = (Override * (len(patterns) + 1))()
        for override, pattern in zip(overrides, patterns, strict=False):
            override.pattern, override.buft = pattern, self.library.ggml_backend_cpu_buffer_type()
        params.tensor_buft_overrides = c.cast(overrides, c.c_void_p) if patterns else None
        self.log.clear()
        self._model = self.library.llama_model_load_from_file(os.fsencode(path), params)
        if not self._model:
            raise Refused("; ".join(self.log.complaints) or "the model could not be read")
        self._of = same
        return self._model

    def _breakdown(self, context: int) -> dict[str, list[int]]:
        """`llama_get_memory_breakdown`; empty where the library does not export it."""
        try:
            ask = self.library._Z26llama_get_memory_breakdownPK13llama_context
        except AttributeError:
            return {}
        ask.restype, ask.argtypes = Header, (c.c_void_p,)
        found: dict[str, list[int]] = {}
        # A structure of this size comes back through hidden memory of ours, as the C++ object does.
        header = ask(context)
        waiting = [header.parent]
        while waiting and len(found) < 64:
            at = waiting.pop()
            if at:
                node = Node.from_address(at)
                found[self.library.ggml_backend_buft_name(node.buft).decode()] = [
                    node.model,
                    node.context,
                    node.compute,
                ]
                waiting += [node.left, node.right]
        if len(found) != header.count:
            raise Refused("the map of buffers is laid out in another way")
        return found


def main(path: str, idle_s: float) -> None:
    """Answer questions until nobody asks any more."""
    output = os.dup(1)
    os.dup2(2, 1)  # what the library prints is no answer
    engine: Engine | None = None
    refused = ""
    try:
        engine = Engine(path)
    except Refused as error:
        refused = str(error)
    pending = b""
    while select.select([0], [], [], idle_s)[0]:
        part = os.read(0, 1 << 16)
        if not part:
            return
        pending += part
        while b"\n" in pending:
            line, _, pending = pending.partition(b"\n")
            try:
                answer = engine.answer(json.loads(line)) if engine else {"refused": refused}
            except (Refused, OSError) as error:
                answer = {"refused": str(error)}
            os.write(output, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
