"""Settings know where they come from, and refuse what they cannot use."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from uml.config import SETTINGS, Settings, ensure_private, ensure_writable
from uml.core.errors import FolderNotWritable, SetupError


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    return home


def sources(settings: Settings) -> dict[str, str]:
    return {row.name: row.source for row in settings.explain()}


def test_without_a_word_from_the_user_every_value_is_a_default(own_home: Path) -> None:
    settings = Settings.load({}, {})
    assert (settings.host, settings.port, settings.engine, settings.max_body_mib) == ("127.0.0.1", 8080, "auto", 64)
    assert settings.api_key is None
    assert (settings.memory_budget, settings.gpu_budget) == (None, {})
    assert settings.llama_server is None
    assert set(sources(settings).values()) == {"default"}
    if sys.platform.startswith("linux"):
        assert settings.data == own_home / "data" / "uml"
        assert settings.file == own_home / "config" / "uml" / "config.toml"


def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(own_home: Path) -> None:
    file = write(own_home / "c.toml", 'port = 1\nhost = "a"\nqueue_limit = 5\nlog-level = "ERROR"\n')
    settings = Settings.load({"port": 3, "host": None}, {"UML_PORT": "2", "UML_HOST": "b", "UML_API_KEY": ""}, file)
    assert (settings.port, settings.host, settings.queue_limit, settings.log_level) == (3, "b", 5, "error")
    told = sources(settings)
    assert told["port"] == "flag --port"
    assert told["host"] == "environment UML_HOST"
    assert told["queue_limit"] == f"file {file}"
    assert told["api_key"] == "default"


def test_the_users_own_file_is_read_and_uml_config_names_another(own_home: Path) -> None:
    if sys.platform.startswith("linux"):
        write(own_home / "config" / "uml" / "config.toml", "port = 1234")
        assert Settings.load({}, {}).port == 1234
    other = write(own_home / "other.toml", "port = 4321")
    assert Settings.load({}, {"UML_CONFIG": str(other)}).port == 4321
    with pytest.raises(SetupError, match=r"missing\.toml does not exist"):
        Settings.load({}, {"UML_CONFIG": str(own_home / "missing.toml")})


def test_the_process_environment_is_read_unless_another_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UML_PORT", "9")
    assert Settings.load().port == 9


def test_load_options_are_merged_one_by_one_under_their_own_names(own_home: Path) -> None:
    file = write(own_home / "c.toml", "[options]\nn_ctx = 4096\ncache-type-k = 'q8_0'\ntensor_split = [3, 1]\n")
    settings = Settings.load({"options": {"parallel": 2}}, {"UML_OPTIONS": '{"ctx": 0}'}, file)
    assert settings.options == {"ctx": 0, "cache_type_k": "q8_0", "tensor_split": (3.0, 1.0), "parallel": 2}
    told = sources(settings)
    assert told["options.ctx"] == "environment UML_OPTIONS"
    assert told["options.cache_type_k"] == f"file {file}"
    assert told["options.parallel"] == "flag --options"
    assert json.dumps([row.value for row in settings.explain()])


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("UML_OPTIONS", "[" * 50_000, "expected a table or JSON object"),
        ("UML_PORT", "x", "UML_PORT is 'x'; expected a port from 0 to 65535"),
        ("UML_PORT", "65536", "UML_PORT is '65536'; expected a port from 0 to 65535"),
        ("UML_MAX_BODY_MIB", "0", "expected a whole number of MiB from 1 to 4096"),
        ("UML_LOAD_TIMEOUT_S", "nan", "UML_LOAD_TIMEOUT_S is 'nan'"),
        ("UML_LOAD_TIMEOUT_S", "soon", "expected seconds from 1 to 86400"),
        ("UML_MEMORY_BUDGET", "150%", "expected bytes"),
        ("UML_MEMORY_BUDGET", "8", "expected bytes"),
        ("UML_MODEL_FOLDERS", "\0", "expected folders"),
        ("UML_MEMORY_BUDGET", "lots", "expected bytes"),
        ("UML_LOG_LEVEL", "loud", "one of debug, info, warning, error"),
        ("UML_ENGINE", "../x", "the name of an engine"),
        ("UML_HOST", " ", "expected a host name"),
        ("UML_ALLOWED_HOSTS", "a,,b", "UML_ALLOWED_HOSTS is 'a,,b'"),
        ("UML_LLAMA_SERVER", "/nowhere/llama-server", "the path of a program"),
        ("UML_RUNTIME", "/" + "long/" * 20, "at most 70 bytes"),
        ("UML_OPTIONS", "ctx=4096", "UML_OPTIONS is 'ctx=4096'; expected a table or JSON object"),
        ("UML_OPTIONS", "[1]", "expected a table or JSON object"),
        ("UML_OPTIONS", '{"ctx": -1}', "UML_OPTIONS: option ctx is -1; expected a whole number from 0"),
        ("UML_OPTIONS", '{"ctxx": 1}', "unknown field options.ctxx; did you mean ctx"),
    ],
)
def test_a_bad_value_names_its_source_and_what_is_expected(variable: str, value: str, expected: str) -> None:
    with pytest.raises(SetupError) as caught:
        Settings.load({}, {variable: value})
    assert expected in caught.value.message


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("port = true", "port in {file} is true; expected a port"),
        ("load_timeout_s = false", "load_timeout_s in {file} is false"),
        ("memory_budget = true", "memory_budget in {file} is true"),
        ("allowed_hosts = 3", "allowed_hosts in {file} is 3"),
        ("model_folders = 3", "model_folders in {file} is 3"),
        ("prot = 1", "prot in {file}: there is no such setting; did you mean port?"),
        ("qqq = 1", "qqq in {file}: there is no such setting; known are data, runtime"),
        ("port = ", "the configuration file {file} is not valid TOML"),
    ],
)
def test_a_bad_line_names_the_file(own_home: Path, line: str, expected: str) -> None:
    file = write(own_home / "c.toml", line)
    with pytest.raises(SetupError) as caught:
        Settings.load({}, {}, file)
    assert expected.format(file=file) in caught.value.message


def test_a_file_that_cannot_be_read_is_one_sentence(own_home: Path) -> None:
    with pytest.raises(SetupError, match="cannot be read: Is a directory"):
        Settings.load({}, {}, own_home)
    broken = own_home / "c.toml"
    broken.write_bytes(b"\xff\xfe")
    with pytest.raises(SetupError, match="is not valid TOML"):
        Settings.load({}, {}, broken)
    for content in ("x = " + "[" * 10_000, "port = " + "9" * 5000):
        broken.write_text(content)
        with pytest.raises(SetupError, match="cannot be read as TOML"):
            Settings.load({}, {}, broken)


def test_the_key_is_never_shown() -> None:
    settings = Settings.load({}, {"UML_API_KEY": "hunter2"})
    assert settings.api_key == "hunter2"
    assert "hunter2" not in repr(settings) + str(settings.explain())
    with pytest.raises(SetupError) as caught:
        Settings.load({}, {"UML_API_KEY": "two words"})
    assert caught.value.message == "UML_API_KEY is not valid; expected printable ASCII without spaces"


def test_paths_start_from_home_the_file_or_the_working_folder(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own_home)
    file = write(own_home / "etc" / "c.toml", 'model_folders = ["models", "~/more", "models"]')
    assert Settings.load({}, {}, file).model_folders == (own_home / "etc" / "models", own_home / "more")
    two = os.pathsep.join(("one", "/two"))
    assert Settings.load({}, {"UML_MODEL_FOLDERS": two}, file).model_folders == (own_home / "one", Path("/two"))
    assert Settings.load({"data": Path("d")}, {}).data == own_home / "d"
    shown = {row.name: row.value for row in Settings.load({}, {}, file).explain()}
    assert shown["model_folders"] == [str(own_home / "etc" / "models"), str(own_home / "more")]


@pytest.mark.parametrize(
    ("given", "budget"),
    [
        ("none", None),
        ("75%", 0.75),
        ("0.5", 0.5),
        (0.25, 0.25),
        ("24GiB", 24 << 30),
        ("1.5g", 3 << 29),
        ("512 MB", 512 << 20),
        (1 << 30, 1 << 30),
        ("2097152", 2 << 20),
        ("2097152b", 2 << 20),
    ],
)
def test_a_memory_budget_is_bytes_or_a_share(given: object, budget: float | None) -> None:
    assert Settings.load({"memory_budget": given}, {}).memory_budget == budget


@pytest.mark.parametrize(
    ("given", "budget"),
    [
        ("80%", {"*": 0.8}),
        ("20GiB", {"*": 20 << 30}),
        ("none", {}),
        ("cuda:0=20GiB, cuda:1=50%", {"cuda:0": 20 << 30, "cuda:1": 0.5}),
        ("cuda:0=8GiB,*=90%", {"cuda:0": 8 << 30, "*": 0.9}),
        ({"cuda:0": "20GiB", "rocm:1": "none"}, {"cuda:0": 20 << 30}),
        ('{"cuda:0": "20GiB"}', {"cuda:0": 20 << 30}),
    ],
)
def test_a_gpu_budget_is_for_all_or_by_device(given: object, budget: dict[str, float]) -> None:
    assert Settings.load({"gpu_budget": given}, {}).gpu_budget == budget


@pytest.mark.parametrize(
    "given", ["120%", "cuda:0=", "cuda0=1GiB", "cuda:0=1GiB,cuda:0=2GiB", "cuda:0=1GiB,2GiB", "{", 5, {"x": 1}, "[" * 9]
)
def test_a_gpu_budget_that_is_none(given: object) -> None:
    with pytest.raises(SetupError, match=r"--gpu-budget is .*; expected bytes \(`20GiB`\), a share"):
        Settings.load({"gpu_budget": given}, {})


def test_a_gpu_budget_from_the_file_and_as_it_is_shown(tmp_path: Path) -> None:
    file = write(tmp_path / "c.toml", '[gpu_budget]\n"cuda:0" = "20GiB"\n')
    settings = Settings.load({}, {}, file)
    assert settings.gpu_budget == {"cuda:0": 20 << 30}
    assert ("gpu_budget", {"cuda:0": 20 << 30}) in [(row.name, row.value) for row in settings.explain()]


def test_llama_server_is_looked_for_only_when_asked(own_home: Path) -> None:
    program = write(own_home / "bin" / "llama-server", "#!/bin/sh\n")
    program.chmod(0o755)
    path = {"PATH": str(program.parent)}
    assert Settings.load({}, path).llama_server is None
    found = Settings.load({"llama_server": "auto"}, path)
    assert found.llama_server == program
    assert sources(found)["llama_server"] == "flag --llama-server: auto, found on PATH"
    lost = Settings.load({}, {"UML_LLAMA_SERVER": "auto", "PATH": str(own_home)})
    assert lost.llama_server is None
    assert sources(lost)["llama_server"] == "environment UML_LLAMA_SERVER: auto, not on PATH"
    assert Settings.load({"llama_server": program}, {}).llama_server == program
    assert Settings.load({"llama_server": "none"}, {"UML_LLAMA_SERVER": "auto", **path}).llama_server is None


def test_a_misspelt_variable_is_told_and_a_foreign_one_is_not() -> None:
    settings = Settings.load({}, {"UML_PROT": "1", "UML_CONFIG": "", "UML_SOMETHING_ELSE": "1"})
    assert settings.warnings == ("UML_PROT is not a setting; did you mean UML_PORT?",)


def test_the_socket_folder_is_short_and_one_for_each_data_folder(own_home: Path) -> None:
    run = own_home / "run"
    run.mkdir()
    near = Settings.load({"data": "/a"}, {"XDG_RUNTIME_DIR": "/run"}).runtime
    assert near.parent == Path("/run")
    assert near != Settings.load({"data": "/b"}, {"XDG_RUNTIME_DIR": "/run"}).runtime
    deep = own_home / ("d" * 80)
    deep.mkdir()
    for environ in ({}, {"XDG_RUNTIME_DIR": str(deep)}, {"XDG_RUNTIME_DIR": "/not/there"}):
        folder = Settings.load({"data": "/a"}, environ).runtime
        assert len(os.fsencode(folder / "worker-0123456789abcdef.sock")) < 104
    assert Settings.load({"runtime": "/short"}, {}).runtime == Path("/short")


def test_a_folder_is_made_and_proved_to_be_writable(tmp_path: Path) -> None:
    assert list(ensure_writable(tmp_path / "a" / "b").iterdir()) == []
    with pytest.raises(FolderNotWritable, match=r"cannot write to .*/c: Not a directory; set UML_DATA"):
        ensure_writable(write(tmp_path / "file", "") / "c")


def test_a_private_folder_lets_nobody_else_in(tmp_path: Path) -> None:
    folder = tmp_path / "sockets"
    folder.mkdir()
    folder.chmod(0o755)
    assert stat.S_IMODE(ensure_private(folder).stat().st_mode) == 0o700
    assert stat.S_IMODE(ensure_private(tmp_path / "new").stat().st_mode) == 0o700
    link = tmp_path / "link"
    link.symlink_to(folder)
    with pytest.raises(FolderNotWritable, match="link"):
        ensure_private(link)
    with pytest.raises(FolderNotWritable, match="Not a directory"):
        ensure_private(write(tmp_path / "file", "") / "c")


def test_every_setting_is_a_field_and_says_what_it_takes() -> None:
    assert {setting.name for setting in SETTINGS} <= set(Settings.__dataclass_fields__)
    assert all(setting.help and setting.expected for setting in SETTINGS)


def test_reading_settings_brings_in_nothing_heavy() -> None:
    code = """
import sys
before = set(sys.modules)
import uml.config
uml.config.Settings.load({}, {})
print(*sorted(set(sys.modules) - before))
"""
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "uml.config" in loaded
    assert not {"pydantic", "fastapi", "tomllib", "difflib", "json", "asyncio", "sqlite3"} & set(loaded)
