"""Commands against a stand-in for the server: the documented contract over a real socket."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tests.cli.conftest import Uml
from tests.client.standin import MODELS, World
from uml.core.errors import WorkerDied


def pipe_in(monkeypatch: pytest.MonkeyPatch, text: str = "") -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_lists_come_from_the_server_where_one_runs(uml: Uml, world: World) -> None:
    assert [line.split()[0] for line in uml("ls").out.splitlines()] == ["MODEL", "demo", "big"]
    assert uml("inspect", "demo").out.startswith("path")
    assert "it fits" in uml("estimate", "demo", "--ctx", "7").out
    assert world.bodies("/v1/models/estimate") == [{"model": "demo", "options": {"ctx": 7}}]
    said = uml("scan", "/m", "--server", world.url)
    assert "1 added" in said.out and "it is empty" in said.out


def test_load_ps_unload(uml: Uml, world: World) -> None:
    assert uml("ps").out == "no model is loaded\n"
    said = uml("load", "demo", "--ctx", "2048", "--lora", "a.gguf=0.5", "-o", "kv_offload=off")
    assert said.code == 0 and said.out == "demo is ready (fake, context 2048, 1.00 GiB, 0.2 s)\n"
    (body,) = world.bodies("/v1/models/load")
    assert body["options"] == {"ctx": 2048, "lora": [f"{Path.cwd()}/a.gguf=0.5"], "kv_offload": False}
    said = uml("ps")
    assert "4711" in said.out and "1/4" in said.out and "WAITS FOR" in said.out
    assert uml("ps", "--json").json["workers"][0]["model"] == "demo"
    assert uml("unload", "demo").out == "unloaded: demo\n"
    assert uml("unload", "--all").out == "nothing was loaded\n"
    assert uml("unload").code == 2 and uml("unload", "demo", "--all").code == 2


def test_load_tells_every_step_to_scripts(uml: Uml, world: World) -> None:
    lines = uml("load", "demo", "--json").lines
    assert [line["event"] for line in lines] == ["progress"] * 3 + ["ready"]


def test_a_load_that_fails_has_the_code_of_its_cause(uml: Uml, world: World) -> None:
    said = uml("load", "big")
    assert said.code == 5 and "ran out of memory" in said.err and said.out == ""
    assert uml("load", "nope").code == 4
    assert uml("load", "./broken.gguf").code == 6


def test_a_path_is_registered_first(uml: Uml, world: World) -> None:
    assert uml("load", "./some.gguf").code == 0
    assert world.bodies("/v1/models/add") == [{"path": f"{Path.cwd()}/some.gguf"}]


def test_run_answers_once(uml: Uml, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe_in(monkeypatch)
    said = uml("run", "demo", "Japan?", "--system", "Be brief", "--temperature", "0", "--stop", ".", "-v")
    assert said.code == 0 and said.out == "Tokyo.\n"
    assert "7 tokens of prompt, 3 tokens, 123.4 tokens/s" in said.err and "mirostat" in said.err
    (body,) = world.bodies("/v1/chat/completions")
    assert body["messages"] == [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Japan?"}]
    assert body["temperature"] == 0 and body["stop"] == ["."] and "seed" not in body


def test_run_reads_standard_input(uml: Uml, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe_in(monkeypatch, "a long text\n")
    assert uml("run", "demo", "Sum up:").out == "Tokyo.\n"
    pipe_in(monkeypatch, "only this")
    uml("run", "demo", "--param", "top_k=5", "--param", "user=me")
    first, second = world.bodies("/v1/chat/completions")
    assert first["messages"][0]["content"] == "Sum up:\n\na long text"
    assert second["messages"][0]["content"] == "only this" and second["top_k"] == 5 and second["user"] == "me"


def test_run_streams_json_lines(uml: Uml, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe_in(monkeypatch)
    lines = uml("run", "demo", "Japan?", "--json").lines
    assert "".join(line.get("text", "") for line in lines) == "Tokyo."
    assert lines[-1] == {
        "usage": {"prompt_tokens": 7, "completion_tokens": 3},
        "timings": {"predicted_per_second": 123.4},
    }


def test_run_takes_a_schema_from_a_file_or_the_command_line(
    uml: Uml, world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object"}')
    for given in (str(schema), '{"type": "object"}'):
        pipe_in(monkeypatch)
        assert uml("run", "demo", "x", "--json-schema", given).code == 0
    formats = [body["response_format"] for body in world.bodies("/v1/chat/completions")]
    assert formats[0] == formats[1] and formats[0]["json_schema"]["schema"] == {"type": "object"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--json-schema", "/none.json"], "cannot read"),
        (["--json-schema", "{oops"], "not JSON"),
        (["--param", "oops"], "NAME=VALUE"),
        (["--temperature", "warm"], "temperature"),
    ],
)
def test_run_refuses_what_cannot_be_read(
    uml: Uml, world: World, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    pipe_in(monkeypatch)
    said = uml("run", "demo", "hi", *arguments)
    assert said.code == 2 and words in said.err
    assert not world.bodies("/v1/chat/completions")


def test_a_model_that_cannot_chat_is_not_loaded_for_one(
    uml: Uml, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe_in(monkeypatch)
    monkeypatch.setitem(MODELS, "vectors", {**MODELS["demo"], "id": "vectors", "role": "embedding"})
    said = uml("run", "vectors", "hi")
    assert said.code == 2
    assert "vectors is an embedding model, which makes vectors of texts; use /v1/embeddings" in said.err
    assert not world.bodies("/v1/models/load")


def test_an_empty_prompt_is_refused(uml: Uml, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe_in(monkeypatch, "\n")
    said = uml("run", "demo")
    assert said.code == 2 and "empty" in said.err


def test_an_answer_that_breaks_is_an_error(uml: Uml, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe_in(monkeypatch)
    world.error = WorkerDied("demo", "signal 9")
    said = uml("run", "demo", "hi")
    assert said.code == 1 and "error: the engine of demo ended: signal 9" in said.err


def test_logs_show_the_last_lines(uml: Uml, world: World) -> None:
    assert uml("logs", "demo", "-n", "2").out == "line 4\nline 5\n"
    assert uml("logs").out.startswith("no model is loaded")
    world.loaded = ["demo", "big"]
    assert uml("logs", "-n", "1").out == "demo: line 5\nbig: line 5\n"
    assert uml("logs", "demo", "-n", "1", "--json").json == {"logs": {"demo": ["line 5"]}}
    assert uml("logs", "nope").code == 4


def test_a_bug_is_a_sentence_and_a_traceback_only_on_demand(
    uml: Uml, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("uml.client.client.Client.models", broken)
    said = uml("ls")
    assert said.code == 1 and "ZeroDivisionError: oh" in said.err and "--debug" in said.err
    assert "Traceback" not in said.err
    assert "Traceback" in uml("ls", "--debug").err
    assert uml("ls", "--json").error["code"] == "internal_error"


def test_stop_does_not_shoot_at_strangers(uml: Uml, world: World) -> None:
    # The stand-in answers, and the process in its file does not exist: there is nothing to stop.
    assert uml("stop").code == 3
