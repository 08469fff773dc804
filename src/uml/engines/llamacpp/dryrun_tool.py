"""A dry run for a `llama-server` of the user's: by the built-in library where both are one build, else by its tool.

`llama-fit-params` lies beside the server where all of llama.cpp was installed. It prints whole MiB, a line a
device: `Host 107 56 137` are weights, cache and computation. It has no argument for the number of outputs,
and computes the logits of a whole batch; and it leaves out what the build copies. So only the cache is taken.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from uml.core.plan import LoadPlan
from uml.engines.llamacpp import build
from uml.engines.llamacpp.dryrun import NoAnswer, Oracle, Question
from uml.engines.llamacpp.table import BUILD, arguments
from uml.hardware.processor import processor
from uml.planning.refine import Figures

TOOL: Final = "llama-fit-params"
LIMIT_S: Final = 10.0
_MIB: Final = 1 << 20
_VALUED: Final = frozenset(
    {
        *("--ctx-size", "--parallel", "--batch-size", "--ubatch-size", "--cache-type-k", "--cache-type-v"),
        *("--flash-attn", "--rope-scaling", "--rope-freq-base", "--rope-freq-scale", "--yarn-orig-ctx"),
        *("--yarn-ext-factor", "--yarn-attn-factor", "--yarn-beta-slow", "--yarn-beta-fast"),
    }
)
"""Arguments of the server that the tool knows too and that the cache depends on; each has a value."""


class ServerOracle:
    """Asks for a program of the user's. wheel: the built-in library, which may be another build."""

    def __init__(self, server: Path, wheel: Oracle, has_amx: Callable[[], bool] | None = None) -> None:
        self._server, self._wheel = server, wheel
        self._has_amx = has_amx or _has_amx

    def ask(self, asked: Question, plan: LoadPlan) -> Figures:
        """The figures for a plan. Raises NoAnswer."""
        version = build.server_version(self._server)
        if BUILD.removeprefix("b") not in version.replace("(", " ").replace(",", " ").split():
            return self._by_tool(plan)
        figures = self._wheel.ask(asked, plan)
        # A build for this machine may copy more of the weights than the wheel does: the header's rules tell.
        return replace(figures, weight_bytes=None, mapped_bytes=None) if self._has_amx() else figures

    def close(self) -> None:
        """End what the library needs."""
        self._wheel.close()

    def _by_tool(self, plan: LoadPlan) -> Figures:
        tool, options = self._server.with_name(TOOL), plan.options
        if not tool.is_file():
            raise NoAnswer(f"{self._server.name} is not {BUILD}, and there is no {TOOL} beside it")
        if options.kv_unified and options.parallel > 1:
            raise NoAnswer(f"{TOOL} has no argument for kv_unified")
        argv = (str(tool), "--model", str(plan.model.info.path), "--fit-print", "on", *_known_to_tool(plan))
        try:
            done = subprocess.run(
                argv, capture_output=True, text=True, errors="replace", timeout=LIMIT_S, stdin=subprocess.DEVNULL
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NoAnswer(f"{TOOL}: {error}") from error
        return self._read(done.stdout, plan)

    def _read(self, text: str, plan: LoadPlan) -> Figures:
        header = plan.footprint
        rows = [line.split() for line in text.splitlines() if line.strip()]
        host = next((row for row in rows if row[0] == "Host" and len(row) == 4), None)
        if host is None or not all(word.isdecimal() for word in host[1:]):
            raise NoAnswer(f"{TOOL} says {text[:80]!r}")
        least = int(host[2]) * _MIB
        # Cut to whole MiB: where the header's figure lies in that one, it is the exact one.
        exact = header.kv_bytes if least <= header.kv_bytes < least + _MIB else least + _MIB
        return Figures(
            "dry run",
            kv_bytes=exact,
            below_bytes=max(0, header.total_bytes - header.low_bytes),
            above_bytes=max(0, header.high_bytes - header.total_bytes),
            source=f"{TOOL} for the cache, the header for the rest",
        )


def _known_to_tool(plan: LoadPlan) -> list[str]:
    words = arguments(plan)
    taken = [part for at, word in enumerate(words[:-1]) if word in _VALUED for part in words[at : at + 2]]
    switches = [word for word in words if word in ("--swa-full", "--no-repack")]
    return taken + switches


def _has_amx() -> bool:
    return "amx_int8" in processor(Path("/"), platform.system()).instructions
