"""Accelerators and their memory, without loading any driver into this process unless Python has NVML at hand."""

from __future__ import annotations

import importlib
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from uml.core.machine import Device
from uml.hardware import files

_SMI_TIMEOUT_S = 3.0
_SMI_FIELDS = "uuid,name,memory.total,memory.free"
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class _Card:
    """A GPU as its driver lists it; `uuid` may be empty."""

    uuid: str
    name: str
    total_bytes: int
    free_bytes: int


def gpus(root: Path, environ: Mapping[str, str]) -> tuple[Device, ...]:
    """NVIDIA and AMD GPUs, numbered as a program with this environment sees them."""
    nvidia = _nvml()
    if nvidia is None:
        nvidia = _nvidia_smi(environ)
    amd = _amd(root)
    visible = environ.get("HIP_VISIBLE_DEVICES", environ.get("ROCR_VISIBLE_DEVICES"))
    return (
        *_devices("cuda", _chosen(nvidia, environ.get("CUDA_VISIBLE_DEVICES"))),
        *_devices("rocm", _chosen(amd, visible)),
    )


def gpu_use(pid: int, environ: Mapping[str, str]) -> dict[str, int]:
    """Bytes of a process on each NVIDIA GPU by NVML's count, the driver's context among them; ids as in `gpus`.

    Empty where NVML is not at hand or does not tell: inside a container it knows processes by other numbers.
    """
    cards, held = _nvml(), _nvml_use(pid)
    chosen = _chosen(cards, environ.get("CUDA_VISIBLE_DEVICES")) if cards and held else []
    return {f"cuda:{number}": held[card.uuid] for number, card in enumerate(chosen) if card.uuid in held}


def _nvml_use(pid: int) -> dict[str, int]:
    """Bytes of a process by the card's UUID."""
    try:
        pynvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return {}
    used: dict[str, int] = {}
    try:
        pynvml.nvmlInit()
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            uuid = _nvml_card(pynvml, handle).uuid
            for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle):
                if process.pid == pid and process.usedGpuMemory:
                    used[uuid] = used.get(uuid, 0) + int(process.usedGpuMemory)
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return {}
    return used


def metal(memory: Device, machine: str) -> Device | None:
    """The GPU of an Apple chip: the same memory, of which macOS lets it hold two thirds, or three quarters over 36 GiB.

    (Metal's `recommendedMaxWorkingSetSize`, as observed; no public formula.)
    """
    if machine != "arm64":
        return None
    share = memory.total_bytes * 2 // 3 if memory.total_bytes <= 36 << 30 else memory.total_bytes * 3 // 4
    return Device("metal:0", "metal", "Apple GPU", share, min(share, memory.free_bytes))


def _devices(kind: Literal["cuda", "rocm"], cards: Sequence[_Card]) -> Iterator[Device]:
    for number, card in enumerate(cards):
        yield Device(f"{kind}:{number}", kind, card.name, card.total_bytes, card.free_bytes)


def _chosen(cards: Sequence[_Card], visible: str | None) -> list[_Card]:
    """The cards that CUDA_VISIBLE_DEVICES leaves, in its order: it ends at the first entry that names none."""
    if visible is None:
        return list(cards)
    chosen = []
    for word in visible.split(","):
        index = files.whole(word)
        if index is not None and index < len(cards):
            chosen.append(cards[index])
            continue
        named = [card for card in cards if word.strip() and card.uuid.startswith(word.strip())]
        if index is not None or len(named) != 1:
            break
        chosen.append(named[0])
    return chosen


def _nvml() -> list[_Card] | None:
    """Cards by NVIDIA's own library where its Python binding is installed; None when it cannot tell."""
    try:
        pynvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return [_nvml_card(pynvml, handle) for handle in handles]
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def _nvml_card(pynvml: Any, handle: object) -> _Card:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    name, uuid = (
        value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        for value in (pynvml.nvmlDeviceGetName(handle), pynvml.nvmlDeviceGetUUID(handle))
    )
    return _Card(uuid, name, int(memory.total), int(memory.free))


def _nvidia_smi(environ: Mapping[str, str]) -> list[_Card]:
    """Cards by the driver's own program; none when it is not there, fails or takes too long.

    A card whose memory reads `[N/A]` (it shares the machine's) is left out: nothing can be placed by that.
    """
    program = shutil.which("nvidia-smi", path=environ.get("PATH"))
    if program is None:
        return []
    try:
        done = subprocess.run(
            [program, f"--query-gpu={_SMI_FIELDS}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_SMI_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    if done.returncode != 0:
        return []
    return [card for line in done.stdout.splitlines() if (card := _smi_card(line)) is not None]


def _smi_card(line: str) -> _Card | None:
    words = [word.strip() for word in line.split(",")]
    if len(words) < len(_SMI_FIELDS.split(",")):
        return None
    total_mib, free_mib = files.whole(words[-2]), files.whole(words[-1])
    if total_mib is None or free_mib is None:
        return None
    return _Card(words[0], ", ".join(words[1:-2]), total_mib * _MIB, free_mib * _MIB)


def _amd(root: Path) -> list[_Card]:
    """Cards of the kernel's amdgpu driver, which alone writes these files."""
    cards = []
    folders = (root / "sys/class/drm").glob("card*/device")
    for folder in sorted(folders, key=lambda folder: (len(folder.parent.name), folder.parent.name)):
        total, used = files.number(folder / "mem_info_vram_total"), files.number(folder / "mem_info_vram_used")
        if total:
            name = files.text(folder / "product_name").strip() or "AMD GPU"
            uuid = files.text(folder / "unique_id").strip()
            cards.append(_Card(f"GPU-{uuid}" if uuid else "", name, total, max(0, total - (used or 0))))
    return cards
