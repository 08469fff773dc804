"""Commands that need no server."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.cli.conftest import Uml
from tests.installed import without_transformers
from uml import __version__
from uml.cli import complete
from uml.cli.doctor import unused
from uml.registry import PACKAGE, packaged_model

DEMO = packaged_model()
PEFT = str(DEMO.with_name("demo-pirate-peft"))


def test_version_is_said_in_both_ways(uml: Uml) -> None:
    assert uml("version").out == uml("--version").out == f"uml {__version__}\n"
    # The quick way and the one with flags are two pieces of code that must agree.
    assert uml("version", "--data", "/x").out == uml("version").out
    assert uml("version", "--json").json["version"] == __version__


def test_the_help_page_has_every_command_and_the_exit_codes(uml: Uml) -> None:
    page = uml("--help").out
    for word in ("run", "serve", "doctor", "estimate", "logs", "Exit codes", "130"):
        assert word in page
    assert uml().code == 2
    for command in ("run", "serve", "ls", "estimate", "doctor"):
        assert "--json" in uml(command, "-h").out


def test_a_wrong_command_line_is_a_sentence_and_code_2(uml: Uml) -> None:
    said = uml("lss")
    assert said.code == 2 and said.err.startswith("error: No such command 'lss'. Did you mean 'ls'")
    said = uml("estimate")
    assert said.code == 2 and "MODEL" in said.err and "try: uml estimate --help" in said.err
    said = uml("ls", "--jsn", "--json")
    assert said.code == 2 and said.error["code"] == "usage" and said.out == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--memory-budget", "lots"], "--memory-budget is 'lots'; expected bytes (`24GiB`), a share"),
        (["--gpu-budget", "cuda:0=lots"], "--gpu-budget is 'cuda:0=lots'; expected bytes"),
        (["--log-level", "shout"], "--log-level is 'shout'; expected one of debug, info, warning, error"),
        (["--llama-server", "/nowhere/llama-server"], "--llama-server is '/nowhere/llama-server'; expected the path"),
        (["--port", "70000"], "--port is '70000'; expected a port from 0 to 65535"),
        (["--port", "web"], "--port is 'web'; expected a port from 0 to 65535"),
        (["--host", " "], "--host is ' '; expected a host name or an address"),
        (["--host", "203.0.113.1", "--port", "0"], "host is '203.0.113.1', which opens this server"),
        (["--host", "203.0.113.1", "--port", "0", "--api-key", "k"], "host is '203.0.113.1'; expected an address of"),
        (["--api-key", "two words"], "--api-key is not valid; expected printable ASCII without spaces"),
        (["--engine", "nobody"], "engine is 'nobody' (flag --engine); expected auto or one of"),
        (["--ctx", "many"], "option ctx is 'many'; expected a whole number"),
        (["-o", "ctxx=1"], "unknown field options.ctxx; did you mean ctx"),
    ],
)
def test_serve_refuses_what_a_setting_does_not_take_as_any_bad_use(
    uml: Uml, arguments: list[str], sentence: str
) -> None:
    said = uml("serve", *arguments)
    assert (said.code, said.out) == (2, "") and said.err.startswith(f"error: {sentence}"), said.err
    assert uml("serve", "--json", *arguments).error["message"].startswith(sentence)


def test_a_setting_that_the_environment_or_the_file_says_is_refused_alike(
    uml: Uml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UML_MEMORY_BUDGET", "lots")
    said = uml("serve", "--json")
    assert (said.code, said.error["code"]) == (2, "bad_setting")
    assert said.error["message"].startswith("UML_MEMORY_BUDGET is 'lots'; expected bytes")
    monkeypatch.delenv("UML_MEMORY_BUDGET")
    file = tmp_path / "config.toml"
    file.write_text("prot = 1\n")
    monkeypatch.setenv("UML_CONFIG", str(file))
    said = uml("serve")
    assert said.code == 2 and f"prot in {file}: there is no such setting; did you mean port?" in said.err


def test_the_demo_model_is_always_listed(uml: Uml) -> None:
    said = uml("ls")
    head, row, *companions = said.out.splitlines()
    assert said.code == 0 and head.split()[:3] == ["MODEL", "FORMAT", "QUANTIZATION"]
    assert row.startswith("demo ") and "Q8_0" in row and "\x1b" not in said.out
    assert [line.split()[0] for line in companions] == [name for name in PACKAGE if name != "demo"]
    model = uml("ls", "--json").json["data"][0]
    assert model["id"] == "demo" and model["state"] == "unloaded"


def test_inspect_tells_by_id_and_by_path(uml: Uml) -> None:
    by_id, by_path = uml("inspect", "demo"), uml("inspect", DEMO)
    assert by_id.out == by_path.out and "GGUF v3" in by_id.out and "llama" in by_id.out
    assert "general.architecture" in uml("inspect", "demo", "--metadata").out
    assert uml("inspect", "demo", "--json").json["architecture"] == "llama"


def test_a_bad_file_is_named_with_code_6(uml: Uml, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(DEMO.read_bytes()[:999])
    said = uml("inspect", broken)
    assert said.code == 6 and said.err.startswith(f"error: {broken}: ") and "Traceback" not in said.err
    said = uml("inspect", broken, "--json")
    assert said.code == 6 and said.out == "" and said.error["details"]["path"] == str(broken)
    assert uml("inspect", tmp_path / "none.gguf").code == 6


def test_an_unknown_model_is_code_4_with_close_names(uml: Uml) -> None:
    said = uml("inspect", "dmeo")
    assert said.code == 4 and "demo" in said.err
    assert uml("estimate", "dmeo", "--json").error["code"] == "model_not_found"


def test_estimate_adds_up(uml: Uml) -> None:
    data = uml("estimate", "demo", "--ctx", "1024", "--cache-type-k", "q8_0", "-o", "parallel=2", "--json").json
    assert data["options"]["ctx"] == 1024 and data["options"]["parallel"] == 2
    assert data["options"]["cache_type_k"] == "q8_0"
    assert sum(data["parts"].values()) == data["total"]["likely"]
    said = uml("estimate", "demo")
    assert said.code == 0 and "kv cache" in said.out and "fits" in said.out


@without_transformers
def test_estimate_counts_an_adapter_of_the_models_own_form(uml: Uml) -> None:
    alone = uml("estimate", "demo-safetensors", "--json").json
    said = uml("estimate", "demo-safetensors", "--lora", PEFT, "--json")
    assert said.code == 0, said.err
    assert said.json["total"]["likely"] > alone["total"]["likely"]
    # No engine for it is installed here; the one that could be is what it is planned for.
    assert (said.json["engine"], said.json["warnings"], said.json["options"]["parallel"]) == (None, [], 4)
    refused = uml("estimate", "demo-safetensors", "--lora", "demo-pirate")
    assert refused.code == 2 and "an adapter of PEFT, a folder with adapter_config.json" in refused.err
    refused = uml("estimate", "demo", "--lora", PEFT)
    assert refused.code == 2 and "an adapter as GGUF: llama.cpp's convert_lora_to_gguf.py" in refused.err


def test_a_folder_that_is_called_like_no_model_is_pointed_at(
    uml: Uml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    said = uml("inspect", "mine")
    assert said.code == 4 and said.err.endswith("\n  there is a folder of this name here; to mean it: ./mine\n")
    assert "of this name here" not in uml("inspect", "other").err
    for command in ("convert", "quantize"):
        assert uml(command, "mine", "--to", "gguf" if command == "convert" else "q8_0").err.endswith(": ./mine\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--ctx", "many"], "whole number"),
        (["--ctx", "99999999999"], "16777216"),
        (["--cache-type-k", "i32"], "q8_0"),
        (["-o", "ctxx=1"], "did you mean ctx"),
        (["-o", "zzzz=1"], "zzzz"),
        (["-o", "ctx"], "--option ctx has no value; expected ctx=VALUE with a whole number"),
        (["--ctx", "1", "-o", "n_ctx=2"], "given twice"),
        (["-o", "tensor_split=a,b"], "list of numbers"),
        (["-o", "kv_offload=maybe"], "true or false"),
        (["-o", "lora=[1"], "list of texts"),
        (["--lora", "dmeo"], "option lora is 'dmeo'; expected the path of a file that is there, or the id"),
    ],
)
def test_a_bad_load_option_is_code_2(uml: Uml, arguments: list[str], words: str) -> None:
    said = uml("estimate", "demo", *arguments)
    assert said.code == 2 and words in said.err and said.err.startswith("error: ")


def test_every_load_option_is_listed(uml: Uml) -> None:
    said = uml("estimate", "demo", "--option", "help")
    assert said.code == 0 and "spec_ngram_min_hits" in said.out
    assert {row["name"] for row in uml("run", "x", "-o", "help", "--json").json} >= {"ctx", "yarn_beta_slow"}


def test_scan_adds_a_folder(uml: Uml, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "twin.gguf").write_bytes(DEMO.read_bytes())
    (folder / "cut.gguf").write_bytes(DEMO.read_bytes()[:99])
    said = uml("scan", folder)
    assert said.code == 0 and "1 added" in said.out and "cut.gguf" in said.out
    assert "twin" in uml("ls").out
    assert len(uml("scan", folder, "--json").json["unchanged"]) == 1
    assert uml("scan", tmp_path / "nowhere").code == 6


def test_the_shell_completes_names_of_models(uml: Uml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert complete.models("d") == list(PACKAGE) and not uml.data.exists()
    uml("ls")
    assert complete.models("uml-demo-5") == ["uml-demo-5m"]
    (uml.data / "registry.sqlite").write_bytes(b"no database" * 99)
    assert complete.models("d") in ([], list(PACKAGE))
    monkeypatch.setenv("UML_PORT", "nonsense")
    assert complete.models("d") == []


def test_doctor_looks_at_everything(uml: Uml) -> None:
    said = uml("doctor")
    assert said.code == 0 and "python" in said.out and "llamacpp" in said.out and "UML_DATA" in said.out
    data = uml("doctor", "--json").json
    assert data["ok"] and {check["name"] for check in data["checks"]} >= {"data folder", "port", "engines", "models"}
    assert data["machine"]["cores"] >= 1


def test_doctor_names_what_is_wrong(uml: Uml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "m" / "gone.gguf"
    gone.parent.mkdir()
    gone.write_bytes(DEMO.read_bytes() + b"\0")
    uml("scan", gone.parent)
    gone.write_bytes(b"GGUF")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("UML_PORT", str(taken.getsockname()[1]))
        monkeypatch.setenv("UML_MODEL_FOLDERS", str(tmp_path / "missing"))
        monkeypatch.setenv("UML_PROT", "1")
        checks = uml("doctor", "--json").json["checks"]
    warned = {check["name"] for check in checks if check["state"] == "warning"}
    assert warned >= {"port", "model", "model folder", "settings"}


def test_a_data_folder_that_cannot_be_written_is_a_sentence(uml: Uml, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    said = uml("ls", "--data", file / "data")
    assert said.code == 1 and "cannot write to" in said.err and "Traceback" not in said.err
    said = uml("doctor", "--data", file / "data")
    assert said.code == 1 and "X" in said.out


def test_instructions_that_a_build_leaves_unused() -> None:
    assert unused({"avx2", "avx512f", "amx_int8"}, {"AVX2": True, "AVX512": False}) == ["avx512f", "amx_int8"]
    assert unused({"avx2"}, {"AVX2": True}) == []


@pytest.mark.parametrize("arguments", [("ps",), ("load", "demo"), ("unload", "--all"), ("logs",), ("stop",)])
def test_commands_for_a_server_say_that_there_is_none(uml: Uml, arguments: tuple[str, ...]) -> None:
    said = uml(*arguments)
    assert said.code == 3 and said.err == "error: no server answers; start one with: uml serve\n"
    assert uml(*arguments, "--json").error["code"] == "no_server"


def test_a_server_that_was_asked_for_must_answer(uml: Uml) -> None:
    said = uml("ls", "--server", "127.0.0.1:9")
    assert said.code == 3 and "http://127.0.0.1:9" in said.err
    assert uml("ls", "--server", "ftp://x").code == 2
