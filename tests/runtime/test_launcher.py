"""The launcher's decisions, in this process: a C library that writes down what it is asked, and puts up nothing."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Collection
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from uml.engines.handover import failure_in
from uml.runtime.sandbox import launcher, policy

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux")
PLAIN = policy.Order("demo", False, oom_score=0)


class Library:
    """As libc on a kernel with this generation of Landlock, which refuses some calls."""

    def __init__(self, abi: int = 6, refuses: Collection[str] = ()) -> None:
        self.abi = abi
        self.refuses = refuses
        self.handled = b""
        self.rules: list[int] = []
        self.calls: list[str] = []

    def _done(self, name: str, result: int = 0) -> int:
        if name in self.refuses:
            ctypes.set_errno(errno.EPERM)
            return -1
        self.calls.append(name)
        return result

    def syscall(self, number: int, *arguments: Any) -> int:
        if number == launcher.CREATE_RULESET and arguments[0] is None:
            ctypes.set_errno(errno.ENOSYS)
            return self.abi or -1
        if number == launcher.CREATE_RULESET:
            self.handled = arguments[0]
            assert arguments[1].value == len(self.handled)
            return self._done("ruleset", os.open("/dev/null", os.O_RDONLY))
        if number == launcher.ADD_RULE:
            self.rules.append(struct.unpack("=Qi", arguments[2])[0])
            return self._done("rule")
        return self._done("restrict")

    def prctl(self, option: int, *arguments: int) -> int:
        return self._done({22: "filter", 38: "no new privileges", 4: "dumpable"}[option])

    def capget(self, header: bytes, held: Any) -> int:
        held.raw = struct.pack("=6I", *[0xFFFFFFFF] * 6)
        return self._done("capget")

    def capset(self, header: bytes, wanted: bytes) -> int:
        assert struct.unpack("=6I", wanted) == (*[launcher.CAPABILITIES] * 3, 0, 0, 0)
        return self._done("capset")

    def unshare(self, flags: int) -> int:
        return self._done("unshare")


def order(**changes: Any) -> dict[str, Any]:
    return asdict(replace(PLAIN, **changes))


@pytest.mark.parametrize("abi", [1, 2, 3, 4, 5, 6, 7])
def test_a_kernel_is_asked_only_for_what_its_generation_knows(abi: int, tmp_path: Path) -> None:
    file = tmp_path / "model"
    file.touch()
    library = Library(abi)
    wanted = order(
        landlock=True, reads=(str(file), "/usr", "/not/there"), writes=(str(tmp_path),), devices=("/dev/null",)
    )
    assert launcher.confine(library, wanted) == []
    assert library.calls == [*("no new privileges", "capget", "capset", "ruleset"), *["rule"] * 4, "restrict"]
    known = {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)
    handled = struct.unpack(f"={len(library.handled) // 8}Q", library.handled)
    assert handled == ((1 << known) - 1, *([3] if abi >= 4 else []), *([3] if abi >= 6 else []))
    of_file, of_folder, of_own, of_device = library.rules
    assert of_file == launcher.EXECUTE | launcher.READ_FILE
    assert of_folder == of_file | launcher.READ_DIR
    assert not of_own & launcher.EXECUTE and of_own & launcher.WRITE_FILE and of_own >> known == 0
    assert of_device >> known == 0 and not of_device & launcher.READ_DIR
    assert bool(of_device & launcher.IOCTL_DEV) == (abi >= 5), (
        "a GPU is used by ioctl, which is forbidden from there on"
    )


def test_whoever_may_talk_to_itself_keeps_tcp_and_gets_no_filter_for_sockets() -> None:
    library = Library(7)
    assert launcher.confine(library, order(landlock=True, seccomp=True, loopback=True)) == []
    assert struct.unpack("=3Q", library.handled)[1:] == (0, 3)
    for machine in ("x86_64", "aarch64"):
        strict, open_ = launcher.program(machine), launcher.program(machine, loopback=True)
        assert len(open_) < len(strict) and open_[-8:] == strict[-8:]
        connect = struct.pack("=HBBI", 0x15, 0, 1, launcher.ARCHITECTURES[machine][3])
        assert connect in strict and connect not in open_
        for number in launcher.ARCHITECTURES[machine][5]:
            assert struct.pack("=HBBI", 0x15, 0, 1, number) in open_


def test_every_fence_is_tried_and_those_that_fail_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    every = order(landlock=True, seccomp=True, namespace=True)
    library = Library(0, refuses={"unshare", "filter"})
    assert launcher.confine(library, every) == [
        "network namespace (Operation not permitted)",
        "Landlock (Function not implemented)",
        "seccomp (Operation not permitted)",
    ]
    assert library.calls == ["no new privileges", "capget", "capset"]
    assert launcher.confine(Library(), order()) == []
    uname = os.uname()
    elsewhere = os.uname_result((*uname[:4], "riscv64"))
    monkeypatch.setattr(os, "uname", lambda: elsewhere)
    assert launcher.confine(Library(), order(seccomp=True)) == ["seccomp (not known on riscv64)"]


def test_a_network_of_ones_own_comes_with_no_rights_over_it(monkeypatch: pytest.MonkeyPatch) -> None:
    written: dict[str, str] = {}
    monkeypatch.setattr(launcher, "write", written.__setitem__)
    monkeypatch.setattr(launcher, "loopback_up", lambda: written.update(lo="up"))
    library = Library()
    assert launcher.confine(library, order(namespace=True)) == []
    assert library.calls == ["unshare", "dumpable", "no new privileges", "capget", "capset"]
    assert written == {
        "/proc/self/setgroups": "deny",
        "/proc/self/uid_map": f"{os.getuid()} {os.getuid()} 1",
        "/proc/self/gid_map": f"{os.getgid()} {os.getgid()} 1",
    }
    launcher.namespace(library, loopback=True)
    assert written["lo"] == "up"


def test_limits_hold_beside_a_group_only_where_it_cannot_be_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import resource

    done: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda what, pair: done.append((what, pair[0])))
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cpus: done.append((-1, len(cpus))))
    monkeypatch.setattr(os, "nice", lambda more: done.append((-2, more)))
    (tmp_path / "cgroup.procs").touch()
    wanted = order(group=str(tmp_path), data_bytes=5, cpus=(0, 1), nice=3)
    launcher.limit(wanted)
    assert (tmp_path / "cgroup.procs").read_text() == "0"
    assert done == [(-2, 3), (resource.RLIMIT_CORE, 0)]
    done.clear()
    launcher.limit({**wanted, "group": str(tmp_path / "gone"), "oom_score": "nonsense"})
    assert done == [(resource.RLIMIT_DATA, 5), (-1, 2), (-2, 3), (resource.RLIMIT_CORE, 0)]
    assert "takes no process: [Errno 2]" in capfd.readouterr().err
    assert [launcher.lower(7, hard) for hard in (-1, 9, 3)] == [7, 7, 3]


def test_a_worker_that_must_be_kept_in_ends_with_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(launcher, "libc", lambda: Library(0))
    monkeypatch.setattr(launcher, "limit", lambda order: None)
    required = replace(PLAIN, landlock=True, required=True)
    monkeypatch.setenv(launcher.VARIABLE, required.as_json())
    assert launcher.main(["true"]) == launcher.REFUSED
    assert launcher.VARIABLE not in os.environ
    failure = failure_in(capfd.readouterr().err)
    assert failure is not None and failure.code == "sandbox_unavailable"
    # Where it is only wished for, the worker runs: a module in this very process.
    (tmp_path / "a_module.py").write_text("import sys; print(__name__, sys.argv[1:])")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["pytest"])
    monkeypatch.setenv(launcher.VARIABLE, replace(required, required=False).as_json())
    assert launcher.main(["-m", "a_module", "--flag"]) == 0
    out, err = capfd.readouterr()
    assert out == "__main__ ['--flag']\n"
    assert err == "sandbox: not in place: Landlock (Function not implemented)\n"


def test_a_program_takes_the_process_over(monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr(launcher, "limit", lambda order: None)
    monkeypatch.setattr(os, "execvp", lambda file, arguments: became.append([file, *arguments]))
    monkeypatch.setenv(launcher.VARIABLE, PLAIN.as_json())
    launcher.main(["server", "--port", "1"])
    assert became == [["server", "server", "--port", "1"]]


def test_what_a_kernel_offers_is_tried_in_children(capfd: pytest.CaptureFixture[str]) -> None:
    found = launcher.probe()
    assert launcher.main(["--probe"]) == 0
    assert set(found) == {"landlock", "seccomp", "namespace", "reasons"}
    assert all(reason.startswith(("Landlock", "seccomp", "network namespace")) for reason in found["reasons"])
    assert "landlock" in capfd.readouterr().out
