"""llama.cpp's slots: what is in them, and how one is written to a file and read back.

The endpoints are the same in the library and in a `llama-server` (`tools/server/server-context.cpp` at build
b11549): GET /slots, POST /slots/{id}?action=save|restore with a file's name below `slot_save_path`.

Which slot a conversation is read back into does not matter: a request without `id_slot` gets the one whose tokens
its prompt begins with (`slot_similarity`), and a slot that was read back has its tokens as any other. Nor does the
host cache (`cache_ram_mib`) change that, but a conversation that was moved into it is in no slot, and is not saved.

What a draft has read is not in the file, and it guesses badly without: `seal` has its end read again, by both.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

from uml.core.engine import Ask, Held, SessionKey
from uml.core.errors import EngineError
from uml.core.model import Role
from uml.core.plan import LoadPlan
from uml.engines.llamacpp.meaning import guessing, scaled, slots, template
from uml.planning.cache import padded

TRAITS: Final = (
    "cache_type_k",
    "cache_type_v",
    "flash_attention",
    "kv_unified",
    "swa_full",
    "override_kv",
    "rope_scaling",
    "rope_freq_base",
    "rope_freq_scale",
    "yarn_orig_ctx",
    "yarn_ext_factor",
    "yarn_attn_factor",
    "yarn_beta_fast",
    "yarn_beta_slow",
    "lora",
    "control_vector",
    "mmproj",
    "extra_flags",
)
"""Options that change what the cache holds, or how it lies in a file."""
DRAFTING: Final = ("draft", "mtp", "eagle3")
"""Guessing with a context of its own, which is not in the file."""
AGAIN_TOKENS: Final = 256
"""How much of a conversation's end is read again where a draft goes along.

Guesses hang on what was said last. Of a draft that guesses as its model does, in three texts of 274, 625 and 463
tokens, the share of right guesses was 1.00, 0.68 and 1.00 where it had stayed, 0.17, 0.13 and 0.07 where it had read
nothing of them, and 0.31, 0.31 and 0.52; 0.75, 0.35 and 0.75; 0.70, 0.56 and 0.75 with the last 64; 128; 256 tokens
(build b11549, `draft_max` 8, 40 tokens each)."""
T = TypeVar("T", list[Any], dict[str, Any])
FILE_HEAD_BYTES: Final = 1 << 12
TOKEN_BYTES: Final = 4
SEQUENCE: Final = (0x67677371, 4)
"""How a file begins: LLAMA_STATE_SEQ_MAGIC and LLAMA_STATE_SEQ_VERSION of llama.h."""
LISTED: Final = (-1, 1)
"""How its tokens begin: LLAMA_TOKEN_NULL and SERVER_TOKENS_STATE_VERSION; then comes how many there are."""
PACKED_HEAD: Final = 3


def session_key(plan: LoadPlan, build: str) -> SessionKey | str:
    """What a conversation of this plan depends on; or why none is kept.

    States of recurrent models and windows of sliding ones are in the file, and are answered from as if they had
    stayed (tests/runtime/test_sessions_shapes.py). build: way and version of the engine.
    """
    options, info = plan.options, plan.model.info
    if info.role not in (Role.TEXT, Role.UNKNOWN):
        return f"a model for {info.role.value} holds none"
    if not options.cache_prompt:
        return "cache_prompt is off, so that none is gone on with"
    # What guesses is in the key too: files hold its state where windows and recurrent states had to be kept.
    drafting = guessing(options) in DRAFTING
    companions = [options.mmproj, options.draft_model if drafting else ""]
    companions += [scaled(text).path for text in (*options.lora, *options.control_vector)]
    return SessionKey(
        files=(*(info.files or (info.path,)), *(Path(name).expanduser() for name in companions if name)),
        traits={
            "engine": build,
            "template": template(options),
            # A file is of a cache of so many streams, and one of another number refuses it.
            "streams": 1 if options.kv_unified else slots(plan),
            "stretched": _stretched(plan),
            "drafting": guessing(options) if drafting else "",
            **{name: getattr(options, name) for name in TRAITS},
        },
    )


def _stretched(plan: LoadPlan) -> bool:
    """Whether positions are counted for a long context: with `longrope` the keys differ then.

    `llama_model::get_rope_factors`: the long factors where a slot holds more than the context before stretching.
    """
    info = plan.model.info
    original = info.metadata.get(f"{info.architecture}.rope.scaling.original_context_length", 0)
    return isinstance(original, int) and plan.options.ctx > original > 0


def session_bytes(plan: LoadPlan, tokens: int) -> int:
    """The slot's share of the cache, as far as it is filled.

    About right for full attention; too much for sliding windows, and too little for recurrent states, which are
    whole whatever the tokens.
    """
    cells = max(1, plan.options.ctx if plan.options.kv_unified else plan.options.ctx * slots(plan))
    return FILE_HEAD_BYTES + TOKEN_BYTES * tokens + plan.footprint.kv_bytes * min(cells, padded(tokens)) // cells


async def held(plan: LoadPlan, ask: Ask) -> tuple[Held, ...]:
    """The slots that hold something. One that was read back and not used since says nothing of itself.

    Without those whose last request had adapters scaled otherwise than the load: read back, they would be taken for
    what the model says as it is loaded.
    """
    scales = [scaled(text).scale for text in plan.options.lora]
    found = []
    for slot in await _answer(list, ask, "GET", "/slots"):
        tokens, task = slot.get("n_prompt_tokens", 0), slot.get("id_task")
        had = [float(one["scale"]) for one in (slot.get("params") or {}).get("lora") or ()]
        as_loaded = len(had) != len(scales) or all(map(_is_close, had, scales))
        if tokens and as_loaded:
            found.append(Held(slot["id"], tokens, task, bool(slot["is_processing"])))
    return tuple(found)


def _is_close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-6)  # the engine's have 32 bits


async def save(ask: Ask, slot: int, name: str) -> tuple[int, int]:
    """Tokens and bytes that were written. Waits for a slot that is at work."""
    said = await _answer(dict, ask, "POST", f"/slots/{slot}?action=save", name)
    return int(said.get("n_saved", 0)), int(said.get("n_written", 0))


def seal(plan: LoadPlan, path: Path) -> None:
    """Have the next turn read the last AGAIN_TOKENS tokens anew where a draft goes along: the draft reads what its
    model does, and what it has not read it cannot go on from.

    One token of the file's list is made another one, so that a prompt is like what was said up to there only. Raises
    EngineError for a file that is laid out otherwise, and OSError.
    """
    if guessing(plan.options) not in DRAFTING:
        return
    with path.open("r+b") as file:
        start, count = _token_list(file, path)
        first = max(0, count - AGAIN_TOKENS)
        file.seek(start + TOKEN_BYTES * first)
        tokens = struct.unpack(f"<{count - first}i", _exactly(file, TOKEN_BYTES * (count - first), path))
        # The places of an image are no tokens: it is read again only as a whole, so what is behind the last one is.
        behind = next((place for place in range(len(tokens), 0, -1) if tokens[place - 1] < 0), 0)
        if behind < len(tokens):
            file.seek(start + TOKEN_BYTES * (first + behind))
            file.write(struct.pack("<i", tokens[behind] - 1 if tokens[behind] else 1))


def _token_list(file: BinaryIO, path: Path) -> tuple[int, int]:
    """Where the tokens stand, and how many there are: `llama_state_seq_save_file`, `server_tokens::serialize`."""
    magic, version, packed = struct.unpack("<3I", _exactly(file, 12, path))
    if (magic, version) != SEQUENCE or packed < PACKED_HEAD:
        raise EngineError("llama.cpp", f"{path.name} is laid out in a way that is not known, version {version}")
    marker, state, count = struct.unpack("<iII", _exactly(file, 12, path))
    if (marker, state) != LISTED or count > packed - PACKED_HEAD:
        raise EngineError("llama.cpp", f"{path.name} lists its tokens in a way that is not known, version {state}")
    return 24, count


def _exactly(file: BinaryIO, size: int, path: Path) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise EngineError("llama.cpp", f"{path.name} ends in its head")
    return data


async def restore(ask: Ask, slot: int, name: str) -> int:
    """Tokens that were read. After a refusal the slot is empty."""
    said = await _answer(dict, ask, "POST", f"/slots/{slot}?action=restore", name)
    return int(said.get("n_restored", 0))


async def _answer(kind: type[T], ask: Ask, method: str, path: str, name: str = "") -> T:
    body = json.dumps({"filename": name}).encode() if name else b""
    status, said = await ask(method, path, body)
    try:
        answer = json.loads(said)
    except ValueError:
        answer = said[:200].decode("utf-8", "replace")
    if status != 200 or not isinstance(answer, kind):
        error = answer.get("error", answer) if isinstance(answer, dict) else answer
        reason = error.get("message", error) if isinstance(error, dict) else error
        raise EngineError("llama.cpp", f"{method} {path} answered {status}: {reason}")
    return answer
