"""How files of weights are read: as pages of the file, or tensor by tensor into memory; and what is given back after.

Where weights become others while they are loaded (another type, fewer bits), pages of the file would stay in memory
beside what was made of them until the last one is read, and some of them for as long as the model is there. Where the
file is not to be mapped, the library reads all of it before it makes tensors of it, and holds both.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import inspect
import logging
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from transformers import modeling_utils

from uml.core.plan import LoadPlan
from uml.engines.transformers.quantize import method_of

UNPACKED: Final = frozenset({"compressed-tensors", "fp8"})
"""What the library unpacks while it loads, the second one where no GPU computes in it."""

TRIM_BYTES: Final = 1 << 26
TRIM_SHARE: Final = 12
"""Memory is given back whenever the process has grown by so much, and by such a part of itself: what is given back is
asked for again by the next tensor, which costs a processor 0.2 s for 135 million weights that are quantized."""

_ONE: Final = threading.RLock()
_log: Final = logging.getLogger(__name__)


@functools.cache  # before anything is put in its place
def reads_apart() -> bool:
    """Whether tensors can be read one by one into memory of their own: safetensors 0.8 can."""
    own = getattr(modeling_utils, "safe_open", None)
    try:
        return own is not None and "backend" in inspect.signature(own).parameters
    except (TypeError, ValueError):  # of what is no function, or of one that does not tell
        return False


def in_place(plan: LoadPlan, stored: torch.dtype | None) -> bool:
    """Whether weights are to be the pages of their files: mapped, and not made into others.

    stored: the type that the model's configuration names.
    """
    options, method = plan.options, method_of(plan)
    kept = options.dtype in ("auto", str(stored).removeprefix("torch."))
    as_it_is = method not in UNPACKED and (kept or method != "none")
    return options.mmap and options.quantize == "none" and as_it_is


@contextlib.contextmanager
def lean(plan: LoadPlan, stored: torch.dtype | None) -> Iterator[None]:
    """While the library loads a model: read one tensor at a time where it is not used in place, and hoard nothing.

    What it is told here is told to all of its threads, so one load waits for another. stored: as for `in_place`.
    """
    with _ONE:
        own: Any = getattr(modeling_utils, "safe_open", None)
        hook = getattr(transformers.utils.logging, "set_tqdm_hook", None)
        apart = not in_place(plan, stored)
        if apart and not reads_apart():
            _log.warning(
                "this version of Transformers cannot be told how to read files: it takes more memory meanwhile"
            )
            apart = False
        if apart:
            # How a file is read is said where it is opened, and nowhere else.
            modeling_utils.safe_open = lambda *place, **more: own(*place, **{**more, "backend": "pread"})
        before = hook(_trimming) if hook else None
        try:
            yield
        finally:
            if apart:
                modeling_utils.safe_open = own
            if hook:
                hook(before)
            trim()


def _trimming(bar: Any, place: tuple[Any, ...], more: dict[str, Any]) -> Any:
    """A bar of the library's that counts tensors, which gives back what those before have left."""
    return bar(*(_trimmed(one) for one in place[:1]), *place[1:], **more)


def _trimmed(items: Iterable[Any]) -> Iterator[Any]:
    known = resident_bytes()
    for item in items:
        yield item
        now = resident_bytes()
        if now - known > max(TRIM_BYTES, now // TRIM_SHARE):
            trim()
            known = resident_bytes()


def resident_bytes() -> int:
    """Of this process; 0 where the system does not tell."""
    if sys.platform != "linux":
        return 0
    # proc_pid_statm(5), in pages.
    return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def trim() -> None:
    """Have the C library give back what nothing is in: it keeps that otherwise, in every thread's memory."""
    if found := getattr(libc(), "malloc_trim", None):
        found(0)


def libc() -> Any:
    """What the process is linked with; nothing but on Linux."""
    return ctypes.CDLL(None) if sys.platform == "linux" else None
