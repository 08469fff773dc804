"""What a worker may touch, told from its plan and its launch. Looks at which paths there are, and changes nothing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Final

from uml.core.engine import Launch
from uml.core.plan import LoadPlan
from uml.planning.estimate import companion_paths
from uml.runtime.sandbox.means import Means

SYSTEM: Final = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/etc", "/proc", "/sys"),
    *("/nix/store", "/gnu/store", "/snap", "/run/opengl-driver", "/run/current-system", "/var/lib/snapd"),
)
"""Programs, libraries, drivers and what the kernel tells. /proc shows other processes only as far as Landlock lets it:
their names, and not their memory, files or environment."""
DEVICES: Final = (
    *("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"),
    *("/dev/dri", "/dev/kfd", "/dev/accel", "/dev/dxg"),
)
"""Devices that compute, and those that every program may expect. NVIDIA's are found by name: `/dev/nvidia*`."""
VARIABLES: Final = ("LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_PATH", "ROCM_PATH", "VULKAN_SDK", "PYTHONPATH")
"""Variables whose folders hold libraries."""
FILES_LIMIT: Final = 64
"""A model in more files than this is let in by its folders."""
OOM_SCORE: Final = 500
"""Added to a worker's badness of 0 to 1000, so that the kernel ends it before the server (proc_pid_oom_adj(5))."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the launcher is told; see there for how each is done.

    loopback: it may talk to itself over sockets, in a network of its own. reads, writes, devices: paths.
    group: a control group to join; data_bytes and cpus: instead, where it cannot.
    """

    model: str
    required: bool
    landlock: bool = False
    seccomp: bool = False
    namespace: bool = False
    loopback: bool = False
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    group: str = ""
    data_bytes: int | None = None
    cpus: tuple[int, ...] = ()
    nice: int = 0
    oom_score: int = OOM_SCORE

    def as_json(self) -> str:
        """As it goes into the environment: paths only, nothing secret."""
        return json.dumps(asdict(self), separators=(",", ":"))


def readable(plan: LoadPlan, launch: Launch, environ: Mapping[str, str], further: Iterable[Path]) -> tuple[str, ...]:
    """What a worker may read and execute: the system, Python, its model, and what its options and variables name."""
    named = {**environ, **launch.environment}
    folders = [folder for name in VARIABLES for folder in named.get(name, "").split(os.pathsep)]
    paths = [
        *SYSTEM,
        *(sys.prefix, sys.base_prefix, sys.exec_prefix),
        # Editable installs lie where no prefix is. Where the server was started is no library.
        *(part for part in sys.path if part and part not in (str(Path.cwd()), str(Path.home()))),
        str(Path(__file__).parents[3]),
        *(part for program in (Path(launch.argv[0]), *launch.reads) for part in _program(program)),
        *(str(path) for path in further),
        *(folder for folder in folders if os.path.isabs(folder)),  # noqa: PTH117 - a string may be no path at all
        *_of_model(plan),
        # A file and not its folder, which is the plug-in's own affair.
        *(str(sampler.path) for sampler in plan.samplers),
        *named_in_options(plan),
    ]
    return tuple(dict.fromkeys(path for path in paths if os.path.exists(path)))  # noqa: PTH110


def _program(path: Path) -> Iterator[str]:
    """A program, and the libraries that lie with it; a folder is itself."""
    real = path.resolve()
    yield str(real)
    if real.is_file():
        yield from (str(folder) for folder in (real.parent, real.parent.parent / "lib") if folder != Path.home())


def _of_model(plan: LoadPlan) -> Iterator[str]:
    info = plan.model.info
    yield str(info.path)
    files = info.files
    if len(files) > FILES_LIMIT:
        yield from {str(file.resolve().parent) for file in files}
    else:
        yield from (str(file) for file in files)
    for folder in (info.path, *(Path(name).expanduser() for name in companion_paths(plan.options))):
        if folder.is_dir():
            # A hub's cache keeps links in the folder of a model, or of an adapter, and the files in another one.
            yield from (str(entry) for entry in islice(folder.iterdir(), 1000) if entry.is_symlink())


def named_in_options(plan: LoadPlan) -> Iterator[str]:
    """Files that options name: as a whole, or before or after the `=` or `:` of a value with parts."""
    for value in plan.options.changed().values():
        for text in value if isinstance(value, tuple | list) else (value,):
            if isinstance(text, str) and len(text) < 4096 and "\n" not in text:
                for part in (text, *_parts(text)):
                    path = os.path.expanduser(part)  # noqa: PTH111
                    if os.path.isabs(path) and path != "/":  # noqa: PTH117
                        yield path


def _parts(text: str) -> Iterator[str]:
    for mark in ("=", ":"):
        before, found, _ = text.rpartition(mark)
        if found:
            yield before
        _, found, after = text.partition(mark)
        if found:
            yield after


def devices(root: Path = Path("/")) -> tuple[str, ...]:
    """The devices of `DEVICES` and NVIDIA's that this machine has."""
    nvidia = sorted(str(path) for path in (root / "dev").glob("nvidia*"))
    return (*(path for path in DEVICES if (root / path[1:]).exists()), *nvidia)


def bubblewrap(program: Path, order: Order) -> list[str]:
    """Words before a command by which bubblewrap shows it the system read-only, and no network.

    For kernels without Landlock. It hides nothing that can be read: a worker sees the files of its user.
    """
    words = [str(program), "--die-with-parent", "--unshare-net", "--ro-bind", "/", "/", "--dev-bind", "/dev", "/dev"]
    for folder in order.writes:
        words += ["--bind", folder, folder]
    return [*words, "--"]


def fenced(order: Order, means: Means) -> Order:
    """The order with every fence that there are means for, and none that only doubles another."""
    wrapped = not means.landlock and means.bubblewrap is not None
    # Whoever may connect can be kept in by a network of its own only; where there is none, that is told.
    alone = not wrapped and ((order.loopback and bool(means.used)) or (means.namespace and not means.seccomp))
    return replace(order, landlock=means.landlock > 0, seccomp=means.seccomp, namespace=alone)
