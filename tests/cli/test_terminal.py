"""What a user sees and types at a terminal, against a stand-in for the server."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Uml
from tests.cli.terminal import terminal
from tests.client.standin import World
from tests.waiting import PATIENCE_S
from uml.cli.chat import Conversation, read_turn
from uml.cli.logs import fresh
from uml.core.errors import Overloaded


def test_a_chat_remembers_and_forgets(uml: Uml, world: World) -> None:
    with terminal("run", "demo", "--seed", "7", "-v") as user:
        user.expect("chat with demo")
        user.expect(">>> ")
        user.enter("I am Hugo.")
        user.expect("Tokyo.")
        user.expect("123.4 tokens/s")
        user.expect(">>> ")
        user.enter("Who am I?")
        user.expect("Tokyo.")
        user.expect(">>> ")
        user.enter("/reset")
        user.expect("forgotten")
        user.enter("/system Be brief")
        user.expect("is set")
        user.enter("/system")
        user.expect("Be brief")
        user.enter("/set system Be brief")
        user.expect("is set")
        user.enter("/set parameter num_ctx 4096")
        user.expect("/set is not known here")
        user.enter("/what")
        user.expect("not known")
        user.enter("/help")
        user.expect("Ctrl-C")
        user.expect("uml run --help")
        user.enter('"""two')
        user.enter('lines"""')
        user.expect("Tokyo.")
        user.enter("/exit")
        assert user.leave() == 0
    first, second, third = [body["messages"] for body in world.bodies("/v1/chat/completions")]
    assert [message["content"] for message in first] == ["I am Hugo."]
    assert [message["content"] for message in second] == ["I am Hugo.", "Tokyo.", "Who am I?"]
    assert third == [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "two\nlines"}]
    assert world.bodies("/v1/chat/completions")[0]["seed"] == 7


def test_ctrl_c_stops_the_answer_and_not_the_program(uml: Uml, world: World) -> None:
    world.endless = False
    with terminal("run", "demo") as user:
        user.expect(">>> ")
        world.endless = True
        user.enter("hi")
        user.expect("xxx")
        user.interrupt()
        user.expect("(stopped)")
        assert world.gone.wait(PATIENCE_S)
        world.endless = False
        user.expect(">>> ")
        user.enter("again")
        user.expect("Tokyo.")
        user.expect(">>> ")
        user.interrupt_until("Ctrl-D or /exit leaves")
        user.expect(">>> ")
        user.type("\x04")
        assert user.leave() == 0
    stopped = world.bodies("/v1/chat/completions")[-1]["messages"][1]["content"]
    assert stopped.startswith("Tokyo.x")


def test_an_answer_that_breaks_off_ends_its_line(uml: Uml, world: World) -> None:
    world.error = Overloaded("the queue is full")
    with terminal("run", "demo", "hi") as user:
        user.expect("To")
        assert user.expect("the queue is full").endswith("\nerror: ")
        assert user.leave() == 1


def test_an_error_does_not_end_the_chat(uml: Uml, world: World) -> None:
    with terminal("run", "demo") as user:
        user.expect(">>> ")
        world.error = Overloaded("the queue is full")
        user.enter("hi")
        user.expect("error: the queue is full")
        user.expect(">>> ")
        user.enter("hi")
        user.expect("Tokyo.")
        user.enter("/exit")
        assert user.leave() == 0
    assert len(world.bodies("/v1/chat/completions")[-1]["messages"]) == 1


def test_a_load_shows_a_bar_and_ctrl_c_cancels_it(uml: Uml, world: World) -> None:
    world.endless = True
    with terminal("load", "demo") as user:
        user.expect("loading")
        user.expect("100%")
        user.interrupt()
        user.expect("the load of demo was cancelled")
        assert user.leave() == 130
    assert world.gone.wait(PATIENCE_S)


def test_tables_have_colours_on_a_terminal_only(uml: Uml, world: World) -> None:
    with terminal("inspect", "demo") as user:
        assert user.leave() == 0
        assert "\x1b[36m" in user.raw and "gguf" in user.text
    with terminal("ls", NO_COLOR="1") as user:
        assert user.leave() == 0
        assert "demo" in user.text and "\x1b[3" not in user.raw
    with terminal("ps") as user:
        assert user.leave() == 0
        assert "no model is loaded" in user.text


def test_errors_are_red_on_a_terminal(uml: Uml, world: World) -> None:
    with terminal("load", "big") as user:
        assert user.leave() == 5
        assert "\x1b[1;31merror: " in user.raw and "ran out of memory" in user.text


def test_a_model_cannot_drive_the_terminal(uml: Uml, world: World) -> None:
    world.answer = ["\x1b]0;owned\x07", "\x1b[2J", "fine\x9b31m"]
    with terminal("run", "demo", "hi") as user:
        assert user.leave() == 0
    assert "\x1b" not in user.raw and "\x07" not in user.raw and "\x9b" not in user.raw
    assert "fine" in user.text


def test_logs_follow_what_is_written(uml: Uml, world: World) -> None:
    with terminal("logs", "demo", "-f", "-n", "2") as user:
        assert "line 3" not in user.expect("line 5")
        world.log += ["line 6"]
        user.expect("line 6")
        user.interrupt()
        assert user.leave() == 0


@pytest.mark.parametrize(
    ("before", "now", "new"),
    [
        ("abc", "abcd", "d"),
        ("abc", "bcde", "de"),
        ("abc", "abc", ""),
        ("", "ab", "ab"),
        ("abc", "xyz", "xyz"),
        ("abcde", "cdef", "f"),
    ],
)
def test_fresh_lines_are_told_from_two_tails(before: str, now: str, new: str) -> None:
    assert "".join(fresh(list(before), list(now))) == new


def test_a_question_may_have_several_lines() -> None:
    lines = iter(['"""a', "b", 'c"""'])
    assert read_turn(lambda prompt: next(lines)) == "a\nb\nc"
    assert read_turn(lambda prompt: '"""one"""') == "one"
    conversation = Conversation("demo", system="s")
    conversation.keep("q", "a")
    assert [message["role"] for message in conversation.asking("r")] == ["system", "user", "assistant", "user"]
