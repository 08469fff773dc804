"""The step between the server and a worker: limits and fences first, then the worker itself.

Run as a program, `python -P launcher.py (-m MODULE | PROGRAM) ARGUMENTS...`, with its order as JSON in the
environment variable `UML_CONFINE`; `policy.Order` says what is in it. A module runs in this very process, so that
a worker of ours costs no second interpreter; a program takes this process over. Everything here holds for the
worker, its threads and its children, and nothing of it can be undone.

Only the standard library, and little of it: a load waits for this, and an engine's own environment may have nothing
else. Sources of the numbers: linux/landlock.h, linux/seccomp.h, linux/audit.h, asm/unistd.h of Linux 6.18.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

VARIABLE: Final = "UML_CONFINE"
REFUSED: Final = 78
"""Exit code when a fence that is required cannot be put up (EX_CONFIG of sysexits.h)."""

CAPABILITIES: Final = 1 << 1 | 1 << 2 | 1 << 14
"""What a worker of root may keep: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, for models that belong to others, and
CAP_IPC_LOCK for `mlock`. With the others it could read the server's memory past any fence."""
PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 4, 22, 38
SECCOMP_MODE_FILTER = 2
CLONE_NEWNET, CLONE_NEWUSER = 0x40000000, 0x10000000

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""landlock_*(2), the same numbers on every architecture."""
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
MAKE_CHAR, MAKE_BLOCK, TRUNCATE, IOCTL_DEV = 1 << 6, 1 << 11, 1 << 14, 1 << 15
FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
"""What a rule about a file, and not a folder, may grant."""
FS_BITS = {1: 13, 2: 14, 3: 15, 4: 15}
"""How many kinds of access to files each generation of Landlock knows; 16 from the fifth."""

ENOSYS, EPERM, EACCES, EAFNOSUPPORT = 38, 1, 13, 97
AF_UNIX, SOCK_DGRAM = 1, 2
SIOCSIFFLAGS, IFF_UP = 0x8914, 1

ARCHITECTURES = {
    # machine: (AUDIT_ARCH, numbers of socket, socketpair, connect, io_uring_setup, and of what no engine needs)
    "x86_64": (
        0xC000003E,
        41,
        53,
        42,
        425,
        (101, 310, 311, 438, 321, 248, 249, 250, 298, 165, 272, 308, 175, 313, 246),
    ),
    "aarch64": (
        0xC00000B7,
        198,
        199,
        203,
        425,
        (117, 270, 271, 438, 280, 217, 218, 219, 241, 40, 97, 268, 105, 273, 104),
    ),
}
"""The last: ptrace, process_vm_readv, process_vm_writev, pidfd_getfd, bpf, add_key, request_key, keyctl,
perf_event_open, mount, unshare, setns, init_module, finit_module, kexec_load."""


def libc() -> Any:
    """The C library with `errno` kept."""
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def checked(result: int) -> int:
    """The result of a call, or its errno as an OSError."""
    if result < 0:
        import ctypes

        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


# --- files: Landlock ------------------------------------------------------------------------------


def landlock_abi(lib: Any) -> int:
    """The generation of Landlock, from 1. Raises OSError where the kernel has none or has it turned off."""
    return checked(lib.syscall(CREATE_RULESET, None, 0, 1))


def landlock(lib: Any, order: Mapping[str, Any]) -> None:
    """From here on: read and execute `reads`, write `writes`, use `devices`, and touch nothing else. Raises OSError.

    Newer generations add TCP (4), ioctl on devices (5), and signals and abstract sockets of others (6).
    """
    import ctypes

    abi = landlock_abi(lib)
    handled = attributes(abi, tcp=not order["loopback"])
    ruleset = checked(lib.syscall(CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), 0))
    try:
        for kind, rights in grants(abi).items():
            for path in order[kind]:
                allow(lib, ruleset, path, rights)
        checked(lib.syscall(RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def every(abi: int) -> int:
    """All kinds of access to files that a generation knows."""
    return (1 << FS_BITS.get(abi, 16)) - 1


def attributes(abi: int, *, tcp: bool) -> bytes:
    """What is forbidden unless a rule allows it (struct landlock_ruleset_attr, as long as the generation knows it)."""
    parts = [every(abi), *([3 * tcp] if abi >= 4 else []), *([3] if abi >= 6 else [])]
    return struct.pack(f"={len(parts)}Q", *parts)


def grants(abi: int) -> dict[str, int]:
    """What is allowed below each kind of path."""
    kinds = {
        "reads": EXECUTE | READ_FILE | READ_DIR,
        "writes": every(abi) & ~(EXECUTE | MAKE_CHAR | MAKE_BLOCK),
        "devices": READ_FILE | READ_DIR | WRITE_FILE | TRUNCATE | IOCTL_DEV,
    }
    return {kind: rights & every(abi) for kind, rights in kinds.items()}


def allow(lib: Any, ruleset: int, path: str, rights: int) -> None:
    """One rule; what is not there needs none. Raises OSError."""
    import stat

    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= FILE_RIGHTS
        checked(lib.syscall(ADD_RULE, ruleset, 1, struct.pack("=Qi", rights, place), 0))
    finally:
        os.close(place)


# --- the network: seccomp, or a namespace ---------------------------------------------------------


def program(machine: str, *, loopback: bool = False) -> bytes:
    """The filter for a processor, as instructions of classic BPF. Raises KeyError for one that is not known here.

    Sockets are Unix streams that listen; connecting to anybody is refused, and so is what could be used to get
    around that: io_uring, other processes' memory and descriptors, system calls of another architecture.
    loopback: sockets are left to the namespace around the worker.
    """
    audit, socket, socketpair, connect, io_uring, forbidden = ARCHITECTURES[machine]

    def load(offset: int) -> tuple[int, int, int, int]:
        return (0x20, 0, 0, offset)  # BPF_LD | BPF_W | BPF_ABS, of struct seccomp_data

    def equal(value: int, skip_if_not: int) -> tuple[int, int, int, int]:
        return (0x15, 0, skip_if_not, value)  # BPF_JMP | BPF_JEQ | BPF_K

    def refuse(error: int) -> tuple[int, int, int, int]:
        return (0x06, 0, 0, 0x00050000 | error)  # BPF_RET, SECCOMP_RET_ERRNO

    permit = (0x06, 0, 0, 0x7FFF0000)
    code = [load(4), (0x15, 1, 0, audit), refuse(ENOSYS), load(0)]
    if machine == "x86_64":
        code += [(0x35, 0, 1, 0x40000000), refuse(ENOSYS)]  # the x32 numbers of the same calls
    code += [equal(io_uring, 1), refuse(ENOSYS)]
    for number in forbidden:
        code += [equal(number, 1), refuse(EPERM)]
    if loopback:
        return b"".join(struct.pack("=HBBI", *instruction) for instruction in (*code, permit))
    code += [equal(connect, 1), refuse(EACCES)]
    # Of socket and socketpair: family in the first argument, type in the lower bits of the second.
    code += [(0x15, 1, 0, socket), equal(socketpair, 7)]
    code += [load(16), (0x15, 1, 0, AF_UNIX), refuse(EAFNOSUPPORT)]
    code += [load(24), (0x54, 0, 0, 0xF), equal(SOCK_DGRAM, 1), refuse(EACCES)]
    code += [permit]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def seccomp(lib: Any, *, loopback: bool = False) -> None:
    """Put the filter up. Raises OSError, and KeyError on a processor that it is not written for."""
    import ctypes

    class Filter(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))

    code = program(os.uname().machine, loopback=loopback)
    checked(lib.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(Filter(len(code) // 8, code)), 0, 0))


def fewer_rights(lib: Any) -> None:
    """Give up what root, or a namespace of one's own, can do beyond files and locked memory. Raises OSError."""
    import ctypes

    header = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3: effective, permitted, inheritable, twice
    held = ctypes.create_string_buffer(24)
    checked(lib.capget(header, held))
    checked(lib.capset(header, lowered(held.raw)))


def lowered(held: bytes) -> bytes:
    """The capabilities that are kept of those held: none above the 31st."""
    parts = struct.unpack("=6I", held)
    return struct.pack("=6I", *(part & (CAPABILITIES if place < 3 else 0) for place, part in enumerate(parts)))


def namespace(lib: Any, *, loopback: bool = False) -> None:
    """A network of its own, in which there is nothing but, if wanted, loopback; a user namespace around it.

    Raises OSError.
    """
    user, group = os.getuid(), os.getgid()
    checked(lib.unshare(CLONE_NEWUSER | CLONE_NEWNET))
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        write(f"/proc/self/{name}", text)
    if loopback:
        loopback_up()
    # The change of rights has made the process unreadable for the server, which looks at it for progress.
    checked(lib.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))


def loopback_up() -> None:
    """Switch loopback on, as a new network does not have it (netdevice(7)). Raises OSError."""
    import fcntl
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))


# --- limits ---------------------------------------------------------------------------------------


def limit(order: Mapping[str, Any]) -> None:
    """Put the process into its group and set what it may take. Raises OSError."""
    import resource

    joined = False
    if order["group"]:
        try:
            write(f"{order['group']}/cgroup.procs", "0")
            joined = True
        except OSError as error:
            tell(f"the control group {order['group']} takes no process: {error}")
    if order["data_bytes"] and not joined:
        most = lower(order["data_bytes"], resource.getrlimit(resource.RLIMIT_DATA)[1])
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    if order["cpus"] and not joined:
        os.sched_setaffinity(0, order["cpus"])
    if order["nice"]:
        os.nice(order["nice"])
    # Writing tens of GiB into a core file would keep the memory, and the news of the crash, for minutes.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if order["oom_score"]:
        with suppress(OSError):  # without it the kernel chooses by size alone, which is the worker nearly always
            write("/proc/self/oom_score_adj", str(order["oom_score"]))


def lower(wanted: int, hard: int) -> int:
    """A limit that may be set: one cannot be raised again; -1 is none."""
    return wanted if hard < 0 else min(wanted, hard)


def write(path: str, text: str) -> None:
    """Write to a file of the kernel, in one call. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


# --- all together ---------------------------------------------------------------------------------


def fences(lib: Any, order: Mapping[str, Any]) -> list[tuple[str, Callable[[], object]]]:
    """The fences of an order with their names, in the order in which they can be put up."""
    loopback = order["loopback"]
    wanted: list[tuple[str, Callable[[], object]]] = []
    if order["namespace"]:
        wanted.append(("network namespace", lambda: namespace(lib, loopback=loopback)))
    if order["landlock"] or order["seccomp"] or order["namespace"]:
        # In a namespace of its own it would have every right over it.
        wanted.append(("no new privileges", lambda: checked(lib.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))))
        wanted.append(("fewer capabilities", lambda: fewer_rights(lib)))
    if order["landlock"]:
        wanted.append(("Landlock", lambda: landlock(lib, order)))
    if order["seccomp"]:
        wanted.append(("seccomp", lambda: seccomp(lib, loopback=loopback)))
    return wanted


def confine(lib: Any, order: Mapping[str, Any]) -> list[str]:
    """Put up every fence of an order. Returns what could not be, each with the kernel's reason."""
    missing = []
    for name, fence in fences(lib, order):
        try:
            fence()
        except OSError as error:
            missing.append(f"{name} ({error.strerror})")
        except KeyError:
            missing.append(f"{name} (not known on {os.uname().machine})")
    return missing


def tell(text: str) -> None:
    """A line in the worker's log."""
    sys.stderr.write(f"sandbox: {text}\n")
    sys.stderr.flush()


def refuse(order: Mapping[str, Any], missing: list[str]) -> None:
    """The last line of a worker that must not run unconfined, as `engines.handover` reads failures."""
    message = f"{order['model']} must run in a sandbox, and this could not be put up: {', '.join(missing)}"
    error = {"message": message, "param": None, "code": "sandbox_unavailable", "details": {"missing": missing}}
    sys.stderr.write("uml-worker-failure: " + json.dumps({"error": error}) + "\n")
    sys.stderr.flush()


def probe() -> dict[str, Any]:
    """What this kernel offers to this user, and why not: each fence is put up around a child of its own."""
    order: dict[str, Any] = {"reads": ["/"], "writes": [], "devices": [], "loopback": False}
    lib = libc()
    kinds = ("landlock", "seccomp", "namespace")
    found: dict[str, Any] = {}
    reasons: list[str] = []
    for kind in kinds:
        ours, theirs = os.pipe()
        if (child := os.fork()) == 0:
            missing = confine(lib, {**order, **{other: other == kind for other in kinds}})
            os.write(theirs, "; ".join(missing).encode())
            os._exit(0)
        os.close(theirs)
        with open(ours, "rb") as pipe:  # noqa: PTH123
            reason = pipe.read().decode()
        found[kind] = os.waitpid(child, 0)[1] == 0 and not reason
        reasons += [reason] if reason else []
    return {**found, "landlock": landlock_abi(lib) if found["landlock"] else 0, "reasons": reasons}


def main(arguments: list[str]) -> int:
    """Confine this process and become the worker."""
    if arguments == ["--probe"]:
        sys.stdout.write(json.dumps(probe()) + "\n")
        return 0
    order = json.loads(os.environ.pop(VARIABLE))
    limit(order)
    missing = confine(libc(), order)
    if missing and order["required"]:
        refuse(order, missing)
        return REFUSED
    for what in missing:
        tell(f"not in place: {what}")
    if arguments[0] == "-m":
        import runpy

        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        os.execvp(arguments[0], arguments)  # noqa: S606 - an argument list, no shell
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
