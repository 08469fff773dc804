"""The processor: its name, what this process may use of it, and its instruction sets."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

from uml.hardware import files
from uml.hardware.cgroup import cpu_limits

# fmt: off
INSTRUCTIONS = frozenset({
    "sse4_2", "avx", "avx2", "fma", "f16c", "bmi2", "avx_vnni",
    "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_int8", "amx_bf16", "amx_fp16",
    "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "svei8mm", "sme", "sme2",
})
# fmt: on
"""The sets that kernels of inference engines are written for, under the names the Linux kernel gives them."""

_APPLE = {"FEAT_DotProd": "asimddp", "FEAT_FP16": "asimdhp", "FEAT_I8MM": "i8mm", "FEAT_BF16": "bf16"} | {
    "FEAT_SME": "sme",
    "FEAT_SME2": "sme2",
    "AdvSIMD": "asimd",
}
_SYSCTL_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Processor:
    """cores: physical ones that this process may use; threads: hardware threads of those."""

    name: str
    cores: int
    threads: int
    instructions: frozenset[str]
    limits: tuple[str, ...] = ()


def processor(root: Path, system: str) -> Processor:
    """What this process may use: affinity and control groups counted. A quota of 2.5 cores is 2."""
    present = os.cpu_count() or 1
    usable = _affinity(present)
    limits = [f"affinity {len(usable)} of {present} processors"] if len(usable) < present else []
    cores, threads = _physical(root, usable), len(usable)
    for limit in cpu_limits(root):
        whole = max(1, int(limit.cores))
        if whole < threads:
            limits.append(limit.reason)
        cores, threads = min(cores, whole), min(threads, whole)
    name, instructions = _apple() if system == "Darwin" else _linux(root)
    return Processor(name or platform.processor() or platform.machine(), cores, threads, instructions, tuple(limits))


def _affinity(present: int) -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(present))


def _physical(root: Path, usable: frozenset[int]) -> int:
    """Cores behind these hardware threads: two threads of one core name the same siblings."""
    folder = root / "sys/devices/system/cpu"
    siblings = {files.text(folder / f"cpu{number}/topology/thread_siblings_list").strip() for number in usable}
    if siblings and "" not in siblings:
        return len(siblings)
    import psutil  # only where the kernel has no topology files, and its import takes 10 ms

    return max(1, min(len(usable), psutil.cpu_count(logical=False) or len(usable)))


def _linux(root: Path) -> tuple[str, frozenset[str]]:
    # The first block tells: on a machine of 200 cores the whole file takes longer than all the rest.
    fields: dict[str, str] = {}
    for line in files.text(root / "proc/cpuinfo", 1 << 14).splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    return fields.get("model name") or fields.get("Model") or "", INSTRUCTIONS.intersection(flags)


def _apple() -> tuple[str, frozenset[str]]:
    rows: dict[str, str] = {}
    try:
        output = subprocess.run(
            ["sysctl", "machdep.cpu.brand_string", "hw.optional"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SYSCTL_TIMEOUT_S,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return "", frozenset()
    for line in output.splitlines():
        key, _, value = line.partition(":")
        rows[key.strip()] = value.strip()
    present = {key.rsplit(".", 1)[-1] for key, value in rows.items() if value == "1"}
    named = {_APPLE[name] for name in present if name in _APPLE}
    # Apple writes Intel's sets as hw.optional.avx2_0 and hw.optional.avx512f.
    plain = {name.removesuffix("_0") for name in present}
    return rows.get("machdep.cpu.brand_string", ""), INSTRUCTIONS.intersection(named | plain)
