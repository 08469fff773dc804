"""Workers that are kept in: what they can and cannot do, with real processes, and what is said where it cannot be."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from tests.runtime.stand_in import DEMO, bench
from uml.config import Settings
from uml.core.engine import Endpoint, Launch
from uml.core.errors import SandboxUnavailable, UmlError
from uml.core.options import LoadOptions
from uml.core.plan import Footprint, LoadPlan, Placement, SamplerFile
from uml.engines.fake import Fake
from uml.engines.handover import failure_in
from uml.house import House
from uml.runtime.sandbox import launcher, policy
from uml.runtime.sandbox.confinement import Confinement
from uml.runtime.sandbox.means import LAUNCHER, Means, means
from uml.runtime.workers.limits import Limits

HERE = means()
CHAT = "/v1/chat/completions"
BODY = orjson.dumps({"model": "demo", "max_tokens": 4, "messages": [{"role": "user", "content": "hi"}]})
linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux")
landlocked = pytest.mark.skipif(HERE.landlock < 6 or not HERE.seccomp, reason="needs Landlock 6 and seccomp")

TRIES = """
import json, os, socket, sys
outside, own = sys.argv[1:]
def unix():
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(own + "/s"); s.listen()
    os.unlink(own + "/s")
def connect():
    with socket.socket(socket.AF_UNIX) as s: s.connect(outside + "/listener")
tries = {
    "listen": unix, "pair": socket.socketpair, "write own": lambda: open(own + "/file", "w"),
    "device": lambda: open("/dev/null", "w").write("x"), "read system": lambda: open("/etc/passwd"),
    "run": lambda: os.execve in () or os.posix_spawn("/bin/true", ["true"], {}),
    "tcp": lambda: socket.socket(socket.AF_INET), "udp6": lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW), "connect": connect,
    "datagram": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
    "read outside": lambda: open(outside + "/secret"), "write outside": lambda: open(outside + "/new", "w"),
    "write model": lambda: open("model.gguf", "a"), "list outside": lambda: os.listdir(outside),
    "server's memory": lambda: open(f"/proc/{os.getppid()}/environ", "rb").read(1),
    "server's life": lambda: os.kill(os.getppid(), 0),
}
done = {}
for name, attempt in tries.items():
    try: attempt(); done[name] = ""
    except OSError as error: done[name] = error.strerror
print(json.dumps(done))
"""
MAY = {"listen", "pair", "write own", "device", "read system", "run"}


def order(**changes: object) -> policy.Order:
    plain = policy.Order("demo", True, landlock=True, seccomp=True, devices=policy.devices())
    return replace(plain, **changes)  # type: ignore[arg-type]


def launched(wanted: policy.Order, *argv: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    # A confined child cannot write down what it covered, and would complain.
    mine = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    environment = {**mine, launcher.VARIABLE: wanted.as_json()}
    command = [*before, sys.executable, "-P", str(LAUNCHER), *argv]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)


@landlocked
@pytest.mark.parametrize("namespace", [False, True])
def test_a_confined_program_has_its_own_and_nothing_else(tmp_path: Path, namespace: bool) -> None:
    if namespace and not HERE.namespace:
        pytest.skip("no user namespaces here")
    own = tmp_path / "own"
    own.mkdir()
    (tmp_path / "secret").write_text("x")
    reads = (*policy.SYSTEM, sys.prefix, sys.base_prefix)
    wanted = order(namespace=namespace, reads=reads, writes=(str(own),))
    done = launched(wanted, sys.executable, "-c", TRIES, str(tmp_path), str(own))
    results = json.loads(done.stdout)
    assert {name for name, reason in results.items() if not reason} == MAY
    assert not (tmp_path / "new").exists()


TALKS = """
import json, socket, sys
def reach(family, address):
    with socket.socket(family) as one:
        one.settimeout(2)
        try: one.connect(address)
        except OSError as error: return type(error).__name__
    return ""
with socket.create_server(("127.0.0.1", 0)) as mine:
    said = {"own": reach(socket.AF_INET, mine.getsockname())}
said["server"] = reach(socket.AF_INET, ("127.0.0.1", int(sys.argv[1])))
said["world"] = reach(socket.AF_INET, ("192.0.2.1", 80))
print(json.dumps(said))
"""


@landlocked
def test_parts_of_a_worker_may_talk_to_each_other_in_a_network_of_their_own() -> None:
    if not HERE.namespace:
        pytest.skip("no user namespaces here")
    wanted = policy.fenced(order(loopback=True, reads=(*policy.SYSTEM, sys.prefix, sys.base_prefix)), HERE)
    with socket.create_server(("127.0.0.1", 0)) as outside:
        done = launched(wanted, sys.executable, "-c", TALKS, str(outside.getsockname()[1]))
    assert not done.stderr
    assert json.loads(done.stdout) == {"own": "", "server": "ConnectionRefusedError", "world": "OSError"}


DENIED = Path(__file__).with_name("denied.py")
GIVEN_UP = "import pathlib; print(pathlib.Path('/proc/self/status').read_text().split('CapEff:')[1].split()[0])"


@linux
@pytest.mark.parametrize(
    ("denied", "used", "missing"),
    [
        ("landlock", 1, ["Landlock"]),
        ("seccomp", 2, ["seccomp"]),
        ("landlock,seccomp", 1, ["Landlock", "seccomp"]),
        ("landlock,seccomp,namespace", 0, ["Landlock", "seccomp", "network namespace"]),
    ],
)
def test_a_kernel_that_offers_less_gives_what_it_can_and_says_what_it_cannot(
    denied: str, used: int, missing: list[str]
) -> None:
    if HERE.landlock < 1 or not HERE.seccomp or not HERE.namespace:
        pytest.skip("needs a kernel with all of it")
    before = (sys.executable, str(DENIED), denied)
    done = subprocess.run([*before, sys.executable, str(LAUNCHER), "--probe"], capture_output=True, check=True)
    said = json.loads(done.stdout)
    assert [reason.partition(" (")[0] for reason in said["reasons"]] == missing
    found = Means(said["landlock"], seccomp=said["seccomp"], namespace=said["namespace"], reasons=(*said["reasons"],))
    assert len(found.used) == used
    asked = policy.fenced(order(landlock=False, seccomp=False, reads=("/",)), found)
    done_there = launched(asked, sys.executable, "-c", GIVEN_UP, before=before)
    assert not done_there.stderr
    rights = int(done_there.stdout, 16)
    assert rights & ~launcher.CAPABILITIES == 0 or not used


def test_a_fence_that_is_required_and_cannot_be_put_up_ends_the_worker() -> None:
    setarch = shutil.which("setarch")
    if setarch is None or os.uname().machine != "x86_64":
        pytest.skip("needs setarch to look like another machine")
    wanted = order(landlock=False)
    done = launched(wanted, "true", before=(setarch, "i686"))
    assert done.returncode == launcher.REFUSED
    told = failure_in(done.stderr)
    assert isinstance(told, SandboxUnavailable)
    assert "seccomp (not known on i686)" in told.message
    # Where it is only wished for, the worker starts and its log says what is not there.
    done = launched(replace(wanted, required=False), "true", before=(setarch, "i686"))
    assert (done.returncode, done.stderr) == (0, "sandbox: not in place: seccomp (not known on i686)\n")


def test_the_filter_is_written_for_the_processors_that_we_know() -> None:
    for machine in ("x86_64", "aarch64"):
        code = launcher.program(machine)
        assert len(code) % 8 == 0
        assert code.endswith(bytes.fromhex("0600 0000 0000 ff7f"))  # what nothing speaks against is allowed
    with pytest.raises(KeyError):
        launcher.program("riscv64")


# --- whole workers ------------------------------------------------------------------------------


def confined(folder: Path) -> Confinement:
    return Confinement.here("required", Limits(), folder / "cache")


def status(pid: int) -> Mapping[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def seen(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@landlocked
async def test_a_confined_worker_serves(tmp_path: Path) -> None:
    async with bench(tmp_path, confinement=confined(tmp_path)) as office:
        async with office.supervisor.lease(DEMO) as lease:
            response = await lease.channel.request("POST", CHAT, BODY)
            assert response.status == 200
            await response.read(1 << 20)
            facts = status(office.pid)
            assert (facts["Seccomp"], facts["NoNewPrivs"]) == ("2", "1")
            assert int(facts["CapEff"], 16) & ~launcher.CAPABILITIES == 0
        assert seen(tmp_path / "cache") == ["fake"]


@landlocked
@pytest.mark.parametrize("external", [False, True])
async def test_the_demo_model_runs_confined(tmp_path: Path, external: bool) -> None:
    program = os.environ.get("UML_TEST_LLAMA_SERVER", "none")
    if external and program == "none":
        pytest.skip("UML_TEST_LLAMA_SERVER names no llama-server")
    given = {"data": str(tmp_path / "data"), "sandbox": "required", "llama_server": program if external else "none"}
    settings = Settings.load(given, {"HOME": str(tmp_path), "PATH": os.environ["PATH"]})
    async with House.open(settings) as house:
        model = house.library.find("demo")
        async with house.supervisor.lease(model) as lease:
            response = await lease.channel.request("POST", CHAT, BODY)
            assert response.status == 200
            assert b"choices" in await response.read(1 << 20)
            worker = house.worker("demo")
            assert worker is not None and worker.pid is not None
            assert status(worker.pid)["Seccomp"] == "2"


class Refused(Fake):
    """An engine whose launcher finds an order that it cannot carry out."""

    def launch(self, plan: LoadPlan, endpoint: Endpoint) -> Launch:
        launch = super().launch(plan, endpoint)
        setarch = shutil.which("setarch") or "setarch"
        return replace(launch, argv=(setarch, "i686", sys.executable, "-P", str(LAUNCHER), *launch.argv[1:]))


@landlocked
async def test_a_worker_that_may_not_run_unconfined_says_what_is_missing(tmp_path: Path) -> None:
    if shutil.which("setarch") is None or os.uname().machine != "x86_64":
        pytest.skip("needs setarch to look like another machine")

    class Twice(Confinement):
        """Hands the order on to the second launcher, which runs as another machine."""

        def hold(self, plan: LoadPlan, launch: Launch, name: str, own: Path):  # type: ignore[no-untyped-def]
            held = super().hold(plan, launch, name, own)
            return replace(held, launch=replace(held.launch, argv=launch.argv))

    async with bench(tmp_path, engines={"fake": Refused()}, confinement=Twice("required", HERE)) as office:
        with pytest.raises(SandboxUnavailable, match="demo must run in a sandbox"):
            await office.supervisor.load(DEMO)


def test_a_server_that_cannot_confine_refuses_to_start_where_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uml.runtime.sandbox.confinement.means", lambda: Means(reasons=("Landlock (no such thing)",)))
    with pytest.raises(SandboxUnavailable, match=r"Landlock of Linux 5\.13") as refused:
        Confinement.here("required", Limits(), Path("/nowhere"))
    assert isinstance(refused.value, UmlError)
    assert len(refused.value.details["missing"]) == 2
    assert not Confinement.here("auto", Limits(), Path("/nowhere")).means.files


# --- what it may touch --------------------------------------------------------------------------


def planned(path: Path, **options: object) -> LoadPlan:
    info = replace(DEMO.info, path=path, files=(path,) if path.is_file() else ())
    return LoadPlan(
        model=replace(DEMO, info=info),
        engine="fake",
        options=LoadOptions.parse(options),
        footprint=Footprint(1, 0, 0),
        placement=Placement({"cpu": 1}),
    )


def test_what_a_worker_may_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("model.gguf", "lora.gguf", "projector.gguf", "private"):
        (tmp_path / name).touch()
    (tmp_path / "libraries").mkdir()
    (tmp_path / "server").touch()
    (tmp_path / "further").mkdir()
    plan = planned(
        tmp_path / "model.gguf",
        lora=[f"{tmp_path}/lora.gguf=0.5"],
        mmproj="~/projector.gguf",
        chat_template="{{ messages }}\n/etc",
        extra_flags=["--grammar-file", str(tmp_path / "absent")],
    )
    launch = Launch(
        (sys.executable,), {"LD_LIBRARY_PATH": f"{tmp_path}/libraries:relative"}, reads=(tmp_path / "server",)
    )
    readable = policy.readable(plan, launch, {}, [tmp_path / "further"])
    ours = {Path(path).name for path in readable if Path(path).parent == tmp_path}
    assert ours == {"model.gguf", "lora.gguf", "projector.gguf", "libraries", "server", "further"}
    assert str(tmp_path) not in readable
    assert {"/usr", "/etc", sys.prefix} <= set(readable)


def test_of_a_plugins_folder_a_worker_reads_its_sampler_alone(tmp_path: Path) -> None:
    (tmp_path / "plugin").mkdir()
    sampler = tmp_path / "plugin" / "sampler.py"
    sampler.touch()
    gone = SamplerFile("gone", tmp_path / "plugin" / "gone.py")
    plan = replace(planned(tmp_path / "model.gguf"), samplers=(SamplerFile("lipogram", sampler), gone))
    readable = policy.readable(plan, Launch((sys.executable,)), {}, [])
    assert [path for path in readable if str(tmp_path) in path and "model" not in path] == [str(sampler)]


def test_a_model_in_a_hubs_cache_is_readable_where_its_links_lead(tmp_path: Path) -> None:
    model, blobs = tmp_path / "snapshots", tmp_path / "blobs"
    for folder in (model, blobs):
        folder.mkdir()
    (blobs / "abc").touch()
    (model / "config.json").symlink_to(blobs / "abc")
    plan = planned(model)
    assert str(model / "config.json") in policy.readable(plan, Launch((sys.executable,)), {}, [])
    many = replace(plan.model.info, files=tuple(model / "config.json" for _ in range(policy.FILES_LIMIT + 1)))
    plan = replace(plan, model=replace(plan.model, info=many))
    assert str(blobs) in policy.readable(plan, Launch((sys.executable,)), {}, [])


def test_an_adapter_in_a_hubs_cache_is_readable_where_its_links_lead(tmp_path: Path) -> None:
    adapter, blobs = tmp_path / "snapshots", tmp_path / "blobs"
    for folder in (adapter, blobs):
        folder.mkdir()
    (blobs / "abc").touch()
    (adapter / "adapter_config.json").symlink_to(blobs / "abc")
    plan = planned(tmp_path / "model.gguf", lora=[f"{adapter}=0"])
    assert str(adapter / "adapter_config.json") in policy.readable(plan, Launch((sys.executable,)), {}, [])


def test_devices_that_compute_are_let_through(tmp_path: Path) -> None:
    (tmp_path / "dev/nvidia-caps").mkdir(parents=True)
    for name in ("null", "nvidia0", "nvidiactl", "nvidia-uvm", "sda", "kfd"):
        (tmp_path / "dev" / name).touch()
    assert set(policy.devices(tmp_path)) == {
        *("/dev/null", "/dev/kfd", f"{tmp_path}/dev/nvidia0", f"{tmp_path}/dev/nvidiactl"),
        *(f"{tmp_path}/dev/nvidia-uvm", f"{tmp_path}/dev/nvidia-caps"),
    }


def test_every_fence_is_used_that_does_not_only_double_another() -> None:
    def names(found: Means) -> tuple[bool, bool, bool]:
        chosen = policy.fenced(policy.Order("m", False), found)
        return chosen.landlock, chosen.seccomp, chosen.namespace

    bwrap = Path("/usr/bin/bwrap")
    assert names(Means(7, seccomp=True, namespace=True)) == (True, True, False)
    assert names(Means(4, namespace=True)) == (True, False, True)
    assert names(Means(0, seccomp=True, namespace=True, bubblewrap=bwrap)) == (False, True, False)
    assert names(Means(0, namespace=True, bubblewrap=bwrap)) == (False, False, False)  # it makes its own
    # Whoever may connect needs a network of its own; where there is none, the launcher says so.
    loopback = policy.Order("m", False, loopback=True)
    assert policy.fenced(loopback, Means(7, seccomp=True)).namespace
    assert (
        not policy.fenced(loopback, Means()).namespace
        and not policy.fenced(loopback, Means(bubblewrap=bwrap)).namespace
    )
    wrapped = Confinement("auto", Means(bubblewrap=bwrap)).hold(
        planned(Path("/m")), Launch(("true",)), "1", Path("/own")
    )
    words = wrapped.launch.argv
    assert words[0] == str(bwrap)
    assert words[words.index("--bind") :][:3] == ("--bind", "/own", "/own")
    assert words[-2:] == (str(LAUNCHER), "true")


def test_what_there_is_and_is_not_is_told_in_words() -> None:
    assert Means(7, seccomp=True).used == ("Landlock 7 (files, TCP, signals)", "seccomp (no sockets but its own)")
    assert Means(1, namespace=True).used == ("Landlock 1 (files)", "a network namespace")
    assert Means(bubblewrap=Path("/b")).used == ("bubblewrap (files, network; /b)",)
    assert Means().used == ()
    assert (Means(7, seccomp=True).missing, Means(7, seccomp=True).weaker) == ((), ())
    assert "signals" in Means(4, seccomp=True).weaker[0]
    assert len(Means(bubblewrap=Path("/b")).weaker) == 2
    files, network = Means(reasons=("Landlock (no such thing)", "seccomp (not allowed)")).missing
    assert files.startswith("a fence around files: ") and files.endswith(" installed (Landlock (no such thing))")
    assert network.startswith("a fence around the network: ") and network.endswith(" installed (seccomp (not allowed))")


def test_a_probe_that_fails_offers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    found = means()
    assert not found.landlock and not found.seccomp
    assert "the probe failed" in found.reasons[0]
    monkeypatch.setattr("sys.platform", "darwin")
    assert "darwin" in means().reasons[0]
