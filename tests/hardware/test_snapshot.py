"""What the machine has, read from invented kernel files and from the real ones."""

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from uml.core.machine import Machine
from uml.hardware import snapshot

NO_PROGRAMS = {"PATH": ""}
GIB = 1 << 30


def lay(root: Path, files: Mapping[str, str]) -> Path:
    """Kernel files below an invented root."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def program(folder: Path, name: str, script: str) -> dict[str, str]:
    """A folder with one program in it, as an environment."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


def test_the_real_machine_is_read_in_no_time() -> None:
    machine = snapshot()
    assert machine.cores >= 1
    assert machine.threads >= machine.cores
    assert 0 < machine.memory.free_bytes <= machine.memory.total_bytes <= psutil.virtual_memory().total
    assert machine.devices[-1] is machine.memory
    assert machine.processor

    started = time.process_time()
    snapshot(environ=NO_PROGRAMS)
    assert time.process_time() - started < 0.5, "some milliseconds where no driver is asked"


def test_importing_the_room_brings_in_nothing_heavy() -> None:
    code = "import sys, uml.hardware; print([m for m in ('psutil', 'pynvml', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_an_empty_root_gives_a_machine_all_the_same(tmp_path: Path) -> None:
    machine = snapshot(tmp_path, NO_PROGRAMS)
    assert machine.instructions == frozenset()
    assert machine.gpus == ()
    assert machine.cores >= 1


def test_the_tightest_group_on_the_way_up_limits_memory(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/outer/inner"
    lay(
        tmp_path,
        {
            "proc/self/cgroup": "0::/outer/inner\n",
            f"{group}/memory.max": "max\n",
            f"{group}/memory.current": "1000\n",
            "sys/fs/cgroup/outer/memory.max": f"{GIB}\n",
            "sys/fs/cgroup/outer/memory.high": f"{2 * GIB}\n",
            "sys/fs/cgroup/outer/memory.current": f"{GIB // 2}\n",
            "sys/fs/cgroup/outer/memory.stat": f"inactive_file {GIB // 8}\nactive_file {GIB // 8}\nodd line here\n",
        },
    )
    machine = snapshot(tmp_path, NO_PROGRAMS)
    assert machine.memory.total_bytes == GIB
    assert machine.memory.free_bytes == GIB - GIB // 4, "page cache is given back before anyone is killed"
    assert "cgroup memory.max 1.00 GiB" in machine.limits


def test_first_generation_groups_limit_memory_and_processor(tmp_path: Path) -> None:
    lay(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\nnonsense\n0::/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GIB}\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB}\n",
            "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 4096\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
    )
    machine = snapshot(tmp_path, NO_PROGRAMS)
    assert (machine.memory.total_bytes, machine.memory.free_bytes) == (2 * GIB, GIB + 4096)
    assert (machine.cores, machine.threads) == (1, 1), "half a core is one thread"


def test_first_generation_groups_tell_of_limits_above_them(tmp_path: Path) -> None:
    folder = "sys/fs/cgroup/memory"
    lay(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/docker/abc/inner\n",
            f"{folder}/docker/abc/memory.limit_in_bytes": f"{3 * GIB}\n",
            f"{folder}/docker/abc/memory.usage_in_bytes": f"{2 * GIB}\n",
            f"{folder}/docker/abc/inner/memory.limit_in_bytes": "9223372036854771712\n",
            f"{folder}/docker/abc/inner/memory.usage_in_bytes": f"{GIB}\n",
            f"{folder}/docker/abc/inner/memory.stat": f"hierarchical_memory_limit {2 * GIB}\ntotal_active_file 4096\n",
        },
    )
    machine = snapshot(tmp_path, NO_PROGRAMS)
    assert machine.memory.total_bytes == 2 * GIB, "the limit of a group that is not to be seen from here"
    assert machine.memory.free_bytes == GIB, "what siblings of an outer group take is taken"
    assert "cgroup hierarchical_memory_limit 2.00 GiB" in machine.limits


@pytest.mark.parametrize("unlimited", ["9223372036854771712", "max", "-1", "", "rubbish"])
def test_no_limit_is_no_limit(tmp_path: Path, unlimited: str) -> None:
    lay(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/../..\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": unlimited,
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "1",
        },
    )
    assert snapshot(tmp_path, NO_PROGRAMS).memory.total_bytes == psutil.virtual_memory().total


def test_a_processor_quota_limits_threads(tmp_path: Path) -> None:
    lay(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/unified/cpu.max": "100000 100000\n",
            "sys/fs/cgroup/unified/memory.max": f"{GIB}",
        },
    )
    machine = snapshot(tmp_path, NO_PROGRAMS)
    assert machine.threads == 1
    assert machine.memory.total_bytes == GIB

    (tmp_path / "sys/fs/cgroup/unified/cpu.max").write_text("max 100000\n")
    assert snapshot(tmp_path, NO_PROGRAMS).threads == snapshot(environ=NO_PROGRAMS).threads


def test_two_threads_of_one_core_are_one_core(tmp_path: Path) -> None:
    topology = {f"sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list": "0-255\n" for n in range(256)}
    machine = snapshot(lay(tmp_path, topology), NO_PROGRAMS)
    assert machine.cores == 1


def test_affinity_is_told(tmp_path: Path) -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from uml.hardware import snapshot; m = snapshot(); print(m.threads, m.limits)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.startswith("1 ")
    if psutil.cpu_count() != 1:
        assert "affinity 1 of" in output


def test_instruction_sets_are_those_of_the_kernel(tmp_path: Path) -> None:
    lay(tmp_path, {"proc/cpuinfo": "processor\t: 0\nmodel name\t: Some Chip\nflags\t\t: fpu avx2 amx_int8 avx512f\n"})
    machine = snapshot(tmp_path, NO_PROGRAMS)
    assert machine.processor == "Some Chip"
    assert machine.instructions == {"avx2", "amx_int8", "avx512f"}

    lay(tmp_path, {"proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm sve\n"})
    assert snapshot(tmp_path, NO_PROGRAMS).instructions == {"asimd", "asimddp", "i8mm", "sve"}


def apple(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, architecture: str = "arm64") -> Machine:
    monkeypatch.setenv("PATH", program(tmp_path, "sysctl", script)["PATH"])
    return snapshot(tmp_path, NO_PROGRAMS, "Darwin", architecture)


def test_an_apple_chip_and_its_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "echo 'machdep.cpu.brand_string: Apple M4'; echo 'hw.optional.arm.FEAT_I8MM: 1'"
    machine = apple(tmp_path, monkeypatch, script + "; echo 'hw.optional.arm.FEAT_SME: 0'")
    assert machine.processor == "Apple M4"
    assert machine.instructions == {"i8mm"}
    (gpu,) = machine.gpus
    assert (gpu.id, gpu.kind) == ("metal:0", "metal")
    assert gpu.total_bytes < machine.memory.total_bytes, "it is the same memory"


def test_an_intel_mac_has_no_metal_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = apple(tmp_path, monkeypatch, "echo 'hw.optional.avx2_0: 1'", "x86_64")
    assert machine.instructions == {"avx2"}
    assert machine.gpus == ()


def test_a_mac_without_sysctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert snapshot(tmp_path, NO_PROGRAMS, "Darwin", "arm64").instructions == frozenset()


SMI = (
    r"printf 'GPU-aa, NVIDIA H100, 80000, 79000\nGPU-bb, Odd, Name, 24000, 100\nGPU-cc, NVIDIA GB10, [N/A], [N/A]\nx\n'"
)


def test_nvidia_gpus_by_the_drivers_own_program(tmp_path: Path) -> None:
    first, second = snapshot(tmp_path, program(tmp_path, "nvidia-smi", SMI)).gpus
    assert (first.id, first.kind, first.name) == ("cuda:0", "cuda", "NVIDIA H100")
    assert (first.total_bytes, first.free_bytes) == (80000 << 20, 79000 << 20)
    assert (second.id, second.name) == ("cuda:1", "Odd, Name")


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        ("1", ["Odd, Name"]),
        ("1,0", ["Odd, Name", "NVIDIA H100"]),
        ("GPU-bb", ["Odd, Name"]),
        ("0,7,1", ["NVIDIA H100"]),
        ("GPU-", []),
        ("-1", []),
        ("", []),
    ],
)
def test_hidden_gpus_are_not_there(tmp_path: Path, visible: str, names: list[str]) -> None:
    environ = program(tmp_path, "nvidia-smi", SMI) | {"CUDA_VISIBLE_DEVICES": visible}
    assert [gpu.name for gpu in snapshot(tmp_path, environ).gpus] == names


@pytest.mark.parametrize("script", ["exit 9", "echo NVIDIA-SMI has failed", "kill -9 $$"])
def test_a_broken_driver_is_no_gpu(tmp_path: Path, script: str) -> None:
    assert snapshot(tmp_path, program(tmp_path, "nvidia-smi", script)).gpus == ()


def test_a_driver_that_hangs_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uml.hardware.gpus._SMI_TIMEOUT_S", 0.2)
    assert snapshot(tmp_path, program(tmp_path, "nvidia-smi", "exec sleep 30")).gpus == ()


def test_a_program_that_cannot_start_is_no_gpu(tmp_path: Path) -> None:
    environ = program(tmp_path, "nvidia-smi", "")
    (tmp_path / "nvidia-smi").write_bytes(b"\x7fELF rubbish")
    assert snapshot(tmp_path, environ).gpus == ()


STAND_IN_NVML = """
class NVMLError(Exception): ...
class Memory: total, free, used = 80 << 30, 79 << 30, 1 << 30
def nvmlInit():
    if {init}: raise NVMLError
def nvmlShutdown(): ...
def nvmlDeviceGetCount():
    if {count}: raise NVMLError
    return 1
def nvmlDeviceGetHandleByIndex(index): return index
def nvmlDeviceGetMemoryInfo(handle): return Memory
def nvmlDeviceGetName(handle): return b"NVIDIA H200"
def nvmlDeviceGetUUID(handle): return "GPU-1"
class Process: pid, usedGpuMemory = 4711, 3 << 30
class Hidden: pid, usedGpuMemory = 4712, None
def nvmlDeviceGetComputeRunningProcesses(handle): return [Process, Process, Hidden]
"""


@pytest.mark.parametrize(("init", "count", "gpus"), [(False, False, 1), (True, False, 0), (False, True, 0)])
def test_nvml_is_asked_first_where_its_binding_is_installed(tmp_path: Path, init: bool, count: bool, gpus: int) -> None:
    (tmp_path / "pynvml.py").write_text(STAND_IN_NVML.format(init=init, count=count))
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r});"
        f"from pathlib import Path; from uml.hardware import snapshot; print(snapshot(Path({str(tmp_path)!r})).gpus)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=NO_PROGRAMS)
    assert done.stdout.count("NVIDIA H200") == gpus


def test_nvml_tells_what_a_process_holds(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from uml.hardware import gpu_use;"
        "print(gpu_use(4711, {}), gpu_use(4712, {}), gpu_use(4711, {'CUDA_VISIBLE_DEVICES': ''}))"
    )

    def printed() -> str:
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()

    assert printed() == "{} {} {}", "without NVML nobody tells"
    (tmp_path / "pynvml.py").write_text(STAND_IN_NVML.format(init=False, count=False))
    assert printed() == f"{{'cuda:0': {6 * GIB}}} {{}} {{}}"
    (tmp_path / "pynvml.py").write_text(STAND_IN_NVML.format(init=True, count=False))
    assert printed() == "{} {} {}"


def test_amd_gpus_by_the_kernels_driver(tmp_path: Path) -> None:
    card = "sys/class/drm/card1/device"
    lay(
        tmp_path,
        {
            f"{card}/mem_info_vram_total": f"{16 * GIB}\n",
            f"{card}/mem_info_vram_used": f"{GIB}\n",
            f"{card}/product_name": "Radeon\n",
            f"{card}/unique_id": "abc\n",
            "sys/class/drm/card0/device/vendor": "0x8086\n",
        },
    )
    (gpu,) = snapshot(tmp_path, NO_PROGRAMS).gpus
    assert (gpu.id, gpu.kind, gpu.name, gpu.free_bytes) == ("rocm:0", "rocm", "Radeon", 15 * GIB)
    assert snapshot(tmp_path, NO_PROGRAMS | {"HIP_VISIBLE_DEVICES": ""}).gpus == ()
