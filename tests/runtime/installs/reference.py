"""A Llama computed by hand: what the tiny model must answer, by the formulas of the paper and nobody's library."""

from __future__ import annotations

from collections.abc import Iterable
from math import cos, exp, sin, sqrt
from operator import mul

from uml.runtime.installs.tiny import (
    CHARACTERS,
    EPSILON,
    HEAD,
    HEADS,
    KV_HEADS,
    LAYERS,
    PROMPT,
    SEED,
    THETA,
    Matrix,
    weights,
)

Vector = list[float]


def greedy(count: int, prompt: str = PROMPT, tensors: Iterable[tuple[str, Matrix]] | None = None) -> tuple[str, float]:
    """The text that follows, and by how much the closest of its choices was won, in logits."""
    model = _Model(dict(weights(SEED) if tensors is None else tensors))
    logits: Vector = []
    for character in prompt:
        logits = model.step(CHARACTERS.index(character))
    text, closest = "", float("inf")
    for _ in range(count):
        second, first = sorted(logits)[-2:]
        closest = min(closest, first - second)
        token = logits.index(first)
        text += CHARACTERS[token]
        logits = model.step(token)
    return text, closest


class _Model:
    def __init__(self, tensors: dict[str, Matrix]) -> None:
        self.tensors = tensors
        self.keys: list[list[list[Vector]]] = [[] for _ in range(LAYERS)]
        self.values: list[list[list[Vector]]] = [[] for _ in range(LAYERS)]
        self.place = 0

    def step(self, token: int) -> Vector:
        hidden = list(self.tensors["model.embed_tokens.weight"][token])
        for layer in range(LAYERS):
            name = f"model.layers.{layer}"
            hidden = _sum(hidden, self._attention(layer, _norm(hidden)))
            normed = _norm(hidden)
            gate, up = (self._times(f"{name}.mlp.{kind}_proj", normed) for kind in ("gate", "up"))
            inner = [g / (1 + exp(-g)) * u for g, u in zip(gate, up, strict=True)]
            hidden = _sum(hidden, self._times(f"{name}.mlp.down_proj", inner))
        self.place += 1
        return self._times("lm_head", _norm(hidden))

    def _attention(self, layer: int, hidden: Vector) -> Vector:
        name = f"model.layers.{layer}.self_attn"
        query, key, value = (self._times(f"{name}.{kind}_proj", hidden) for kind in "qkv")
        self.keys[layer].append([self._turned(head) for head in _heads(key, KV_HEADS)])
        self.values[layer].append(_heads(value, KV_HEADS))
        out: Vector = []
        for number, head in enumerate(_heads(query, HEADS)):
            shared = number * KV_HEADS // HEADS
            turned = self._turned(head)
            scores = [exp(sum(map(mul, turned, keys[shared])) / sqrt(HEAD)) for keys in self.keys[layer]]
            total = sum(scores)
            parts = zip(scores, self.values[layer], strict=True)
            mixed = [[score / total * element for element in values[shared]] for score, values in parts]
            out += [sum(column) for column in zip(*mixed, strict=True)]
        return self._times(f"{name}.o_proj", out)

    def _turned(self, head: Vector) -> Vector:
        half = HEAD // 2
        turned = [0.0] * HEAD
        for index in range(half):
            angle = self.place * THETA ** (-2 * index / HEAD)
            a, b = head[index], head[index + half]
            turned[index] = a * cos(angle) - b * sin(angle)
            turned[index + half] = b * cos(angle) + a * sin(angle)
        return turned

    def _times(self, name: str, vector: Vector) -> Vector:
        return [sum(map(mul, row, vector)) for row in self.tensors[f"{name}.weight"]]


def _norm(vector: Vector) -> Vector:
    scale = 1 / sqrt(sum(map(mul, vector, vector)) / len(vector) + EPSILON)
    return [element * scale for element in vector]


def _sum(first: Vector, second: Vector) -> Vector:
    return [a + b for a, b in zip(first, second, strict=True)]


def _heads(vector: Vector, count: int) -> list[Vector]:
    return [vector[head * HEAD : (head + 1) * HEAD] for head in range(count)]
