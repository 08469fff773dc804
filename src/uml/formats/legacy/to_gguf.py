"""A LLaMA file from before GGUF as the GGUF that it becomes: metadata, tensors under their new names, what is lost.

What the old file does not say is told from what it has: key-value heads and the feed-forward width from the shapes of
tensors, scores of an unversioned file's tokens from their order. Names and values as in llama.cpp's
convert_llama_ggml_to_gguf.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from uml.core.errors import CorruptFile
from uml.core.model import Scalar
from uml.formats.gguf import values
from uml.formats.gguf.head import ALIGNMENT, head, laid_out, padded
from uml.formats.gguf.header import GgufHeader, TensorInfo
from uml.formats.gguf.tables import FILE_TYPES
from uml.formats.legacy.file import MAX_FEED_FORWARD, LegacyFile, LegacyTensor, Token

CONTEXT: Final = 2048
CONTEXT_2: Final = 4096
"""Of Llama 2, which the files that are of it do not say."""
EPSILON_THEN: Final = 1e-6
"""What llama.cpp computed with before GGJT v3, whatever the model; LLaMA's own but for its largest."""
EPSILON_BETWEEN: Final = 5e-6
"""For GGJT v3 that may be of either: llama.cpp's in those days."""
EPSILON_2: Final = 1e-5
QUANTIZATION_VERSION: Final = 2
UNKNOWN, BEGIN, END = 0, 1, 2
"""LLaMA's first tokens."""
FIRST_BYTE, FIRST_PIECE = 3, 259
"""LLaMA's vocabulary: 256 bytes, then pieces in the order in which they were learned."""
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6
_SPACES_SCORE: Final = -1e9
_SPACE: Final = "\u2581".encode()
_SECOND: Final = re.compile(r"llama[-_. ]?(?:v)?2", re.IGNORECASE)
_LAYER: Final = re.compile(r"layers\.(\d{1,3})\.(.+)")

_OUTER: Final[Mapping[str, str]] = {
    "tok_embeddings.weight": "token_embd.weight",
    "norm.weight": "output_norm.weight",
    "output.weight": "output.weight",
}
_INNER: Final[Mapping[str, str]] = {
    "attention_norm.weight": "attn_norm.weight",
    "attention.wq.weight": "attn_q.weight",
    "attention.wk.weight": "attn_k.weight",
    "attention.wv.weight": "attn_v.weight",
    "attention.wo.weight": "attn_output.weight",
    "ffn_norm.weight": "ffn_norm.weight",
    "feed_forward.w1.weight": "ffn_gate.weight",
    "feed_forward.w2.weight": "ffn_down.weight",
    "feed_forward.w3.weight": "ffn_up.weight",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What GGUF says of the model's shape, and how sure it is. guessed: what was not in the file, as sentences."""

    feed_forward: int
    kv_heads: int
    context: int
    epsilon: float
    guessed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Becoming:
    """The GGUF that an old file becomes. moves: each tensor of it and the old one that it is made of.

    lost: what the new file does not have of the old one, as a sentence; empty where its weights are the same.
    """

    header: GgufHeader
    moves: tuple[tuple[TensorInfo, LegacyTensor], ...]
    lost: str
    guessed: tuple[str, ...]


def becoming(old: LegacyFile, name: str) -> Becoming:
    """What it becomes, without its tokens. name: of the model. Raises CorruptFile where tensors do not fit."""
    facts = _facts(old, name)
    tensors = _renamed(old, facts)
    placed = laid_out((values.tensor(new, tensor.shape, tensor.coding.new_type) for new, tensor in tensors), ALIGNMENT)
    weights = sum(padded(tensor.size_bytes, ALIGNMENT) for tensor in placed)
    header = GgufHeader(
        path=old.paths[0],
        size_bytes=weights,
        version=3,
        big_endian=False,
        metadata=_scalars(old, facts, name),
        arrays={},
        lengths=dict.fromkeys(_ARRAYS, old.numbers.vocabulary),
        tensors=placed,
        data_start=0,
        data_end=weights,
    )
    moves = tuple(zip(placed, (tensor for _, tensor in tensors), strict=True))
    return Becoming(header, moves, _lost(old), facts.guessed)


def head_of(old: LegacyFile, new: Becoming) -> bytes:
    """Everything of the new file before its weights. `old` was read with its vocabulary."""
    metadata = {key: _as_bytes(value) for key, value in new.header.metadata.items()}
    return head(metadata | _vocabulary(old), new.header.tensors, ALIGNMENT)


_ARRAYS: Final = ("tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type")


def _as_bytes(value: Scalar) -> bytes:
    if isinstance(value, bool):
        return values.flag(value)
    if isinstance(value, int):
        return values.u32(value)
    return values.f32(value) if isinstance(value, float) else values.text(value)


def _scalars(old: LegacyFile, facts: Facts, name: str) -> dict[str, Scalar]:
    numbers = old.numbers
    found: dict[str, Scalar] = {
        "general.architecture": "llama",
        "general.name": name,
        "general.description": f"made of {old.generation.label}",
        "general.quantization_version": QUANTIZATION_VERSION,
        "llama.context_length": facts.context,
        "llama.embedding_length": numbers.embedding,
        "llama.block_count": numbers.layers,
        "llama.feed_forward_length": facts.feed_forward,
        "llama.rope.dimension_count": numbers.embedding // numbers.heads,
        "llama.attention.head_count": numbers.heads,
        "llama.attention.head_count_kv": facts.kv_heads,
        "llama.attention.layer_norm_rms_epsilon": facts.epsilon,
        "llama.vocab_size": numbers.vocabulary,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.unknown_token_id": UNKNOWN,
        "tokenizer.ggml.bos_token_id": BEGIN,
        "tokenizer.ggml.eos_token_id": END,
    }
    # Above a thousand, some writers kept a version of the quantization.
    kind = FILE_TYPES.get(numbers.file_type % 1000)
    if kind:
        anew = any(tensor.coding.packed_anew for tensor in old.tensors.values())
        found["general.file_type"] = _Q8_0 if anew else numbers.file_type % 1000
    return found


_Q8_0: Final = next(number for number, kind in FILE_TYPES.items() if kind.label == "Q8_0")


def _facts(old: LegacyFile, name: str) -> Facts:
    numbers, path = old.numbers, old.paths[0]
    gate, key = (_first(old, inner) for inner in ("feed_forward.w1.weight", "attention.wk.weight"))
    feed_forward, key_rows = gate.shape[-1], key.shape[-1]
    head_size = numbers.embedding // numbers.heads
    kv_heads = key_rows // head_size
    if len(gate.shape) != 2 or not 0 < feed_forward <= MAX_FEED_FORWARD:
        raise CorruptFile(path, f"{gate.name} has the shape {gate.shape}", "a matrix of a Llama")
    if len(key.shape) != 2 or key_rows % head_size or not kv_heads or numbers.heads % kv_heads:
        wish = f"rows for a number of heads that divides {numbers.heads}, of {head_size} each"
        raise CorruptFile(path, f"{key.name} has the shape {key.shape}", wish)
    # Llama 2 came in July 2023; only its largest shared keys among heads.
    latest = old.generation.version == 3
    second = latest and (kv_heads < numbers.heads or _SECOND.search(name) is not None)
    epsilon = EPSILON_2 if second else EPSILON_BETWEEN if latest else EPSILON_THEN
    context = CONTEXT_2 if second else CONTEXT
    guessed = [f"the file does not say its context, taken to be {context}, nor its epsilon, taken to be {epsilon:g}"]
    if not old.generation.scored:
        guessed.append("its tokens have no scores: they are taken from their order, as in LLaMA's own vocabulary")
    return Facts(feed_forward, kv_heads, context, epsilon, tuple(guessed))


def _first(old: LegacyFile, inner: str) -> LegacyTensor:
    name = f"layers.0.{inner}"
    if name not in old.tensors:
        raise CorruptFile(old.paths[0], f"it has no tensor {name}", "all that a Llama has")
    return old.tensors[name]


def _renamed(old: LegacyFile, facts: Facts) -> tuple[tuple[str, LegacyTensor], ...]:
    """The tensors by their new names, in the order of the file. Raises CorruptFile."""
    wanted = _wanted(old, facts)
    found = []
    for name, tensor in old.tensors.items():
        layer = _LAYER.fullmatch(name)
        inner = _INNER.get(layer[2]) if layer else None
        new = f"blk.{int(layer[1])}.{inner}" if layer and inner else _OUTER.get(name, "")
        shape = wanted.pop(new, None)
        if shape is None:
            raise CorruptFile(old.paths[0], f"it has the tensor {name!r}", "only what a Llama has")
        if tensor.shape != shape:
            raise CorruptFile(old.paths[0], f"the tensor {name} has the shape {tensor.shape}", f"{shape}")
        found.append((new, tensor))
    if wanted:
        some = ", ".join(list(wanted)[:3])
        raise CorruptFile(old.paths[0], f"it ends without {len(wanted)} of a Llama's tensors ({some})")
    return tuple(found)


def _wanted(old: LegacyFile, facts: Facts) -> dict[str, tuple[int, ...]]:
    """Every tensor by its new name, and its shape."""
    width, shared = old.numbers.embedding, facts.kv_heads * (old.numbers.embedding // old.numbers.heads)
    inner = {
        "attn_norm.weight": (width,),
        "attn_q.weight": (width, width),
        "attn_k.weight": (width, shared),
        "attn_v.weight": (width, shared),
        "attn_output.weight": (width, width),
        "ffn_norm.weight": (width,),
        "ffn_gate.weight": (width, facts.feed_forward),
        "ffn_down.weight": (facts.feed_forward, width),
        "ffn_up.weight": (width, facts.feed_forward),
    }
    wanted: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (width, old.numbers.vocabulary),
        "output_norm.weight": (width,),
        "output.weight": (width, old.numbers.vocabulary),
    }
    for layer in range(old.numbers.layers):
        wanted |= {f"blk.{layer}.{name}": shape for name, shape in inner.items()}
    return wanted


def _lost(old: LegacyFile) -> str:
    codings = {tensor.coding for tensor in old.tensors.values()}
    anew = sorted({coding.name for coding in codings if coding.packed_anew})
    if anew:
        return f"its {' and '.join(anew)} weights are packed anew as Q8_0, finer than they were, and take more room"
    if any(coding.floats for coding in codings):
        return "its scales go from 32 bits to 16 and are rounded, by 0.05 % at most where they are not tiny"
    return ""


def _vocabulary(old: LegacyFile) -> dict[str, bytes]:
    scores = [token.score for token in old.tokens]
    if not any(scores):
        scores = [_score(number, token) for number, token in enumerate(old.tokens)]
    texts, kinds = zip(*(_token(number, token) for number, token in enumerate(old.tokens)), strict=True)
    return dict(zip(_ARRAYS, (values.texts(texts), values.f32s(scores), values.i32s(kinds)), strict=True))


def _score(number: int, token: Token) -> float:
    """What LLaMA's own vocabulary has for it: the earlier a piece was learned, the sooner it is put together."""
    if number < FIRST_PIECE:
        return 0.0
    return _SPACES_SCORE if not token.text.strip(b" ") else float(FIRST_PIECE - number)


def _token(number: int, token: Token) -> tuple[bytes, int]:
    """Text and kind of a token in GGUF. Old files have a byte as it is, a space for SentencePiece's mark."""
    if number <= END:
        return (b"<unk>", b"<s>", b"</s>")[number], _UNKNOWN if number == UNKNOWN else _CONTROL
    if not token.text:
        return b"", _CONTROL
    if FIRST_BYTE <= number < FIRST_PIECE and len(token.text) == 1:
        return f"<0x{token.text[0]:02X}>".encode(), _BYTE
    return token.text.replace(b" ", _SPACE), _NORMAL
