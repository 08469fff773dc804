"""A kernel that offers less: `python denied.py NAMES PROGRAM ARGUMENTS...` has these system calls refused from here on.

As containers do it. Names, with commas between them, of `CALLS`; seccomp itself is refused last.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from typing import Final

MACHINES: Final = {
    # machine: the numbers of prctl, seccomp and unshare
    "x86_64": (157, 317, 272),
    "aarch64": (167, 277, 97),
}
ENOSYS, EPERM, EINVAL = 38, 1, 22


def instructions(names: list[str], machine: str) -> bytes:
    """The filter, in classic BPF."""
    prctl, seccomp, unshare = MACHINES[machine]
    calls = {"landlock": [(444, ENOSYS)], "namespace": [(unshare, EPERM)], "seccomp": [(seccomp, EPERM)]}
    code = [(0x20, 0, 0, 0)]  # the number of the call
    for number, error in (one for name in names for one in calls[name]):
        code += [(0x15, 0, 1, number), (0x06, 0, 0, 0x00050000 | error)]
    if "seccomp" in names:
        # prctl(PR_SET_SECCOMP), and no other prctl.
        code += [(0x15, 0, 3, prctl), (0x20, 0, 0, 16), (0x15, 0, 1, 22), (0x06, 0, 0, 0x00050000 | EINVAL)]
    code += [(0x06, 0, 0, 0x7FFF0000)]
    return b"".join(struct.pack("=HBBI", *one) for one in code)


def main() -> None:
    """Put it up and become the program."""
    code = instructions(sys.argv[1].split(","), os.uname().machine)

    class Filter(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))

    lib = ctypes.CDLL(None, use_errno=True)
    for asked in ((38, 1, 0, 0, 0), (22, 2, ctypes.byref(Filter(len(code) // 8, code)), 0, 0)):
        if lib.prctl(*asked) < 0:
            raise OSError(ctypes.get_errno(), "prctl")
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
