"""Chat templates: what a model is made to read, and what they cannot do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from uml.core.errors import BadRequest, ContextLengthExceeded
from uml.engines.hosted.prompt import Language
from uml.engines.hosted.speech import Marks
from uml.engines.hosted.template import Template, check
from uml.sampling.vocabulary import Vocabulary

CHATML = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% if m.tool_calls %}"
    "{{ m.tool_calls[0].function.arguments.a }}{% endif %}</>\n{% endfor %}"
    "{% if tools %}{{ tools | tojson }}{% endif %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def rendered(source: str = CHATML, **request: Any) -> str:
    return Template(source, {"bos_token": "^"}).render({"messages": [{"role": "user", "content": "hi"}], **request})


def test_messages_become_a_prompt() -> None:
    assert rendered() == "^<user>hi</>\n<assistant>"
    assert rendered(add_generation_prompt=False) == "^<user>hi</>\n"


def test_a_developer_is_the_system_to_a_template_that_knows_none() -> None:
    talk = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    assert rendered(messages=talk) == "^<system>Be brief.</>\n<user>hi</>\n<assistant>"
    knows = "{% for m in messages %}{% if m.role == 'developer' %}!{% endif %}{{ m.content }}{% endfor %}"
    assert rendered(knows, messages=talk) == "!Be brief.hi"
    assert talk[0]["role"] == "developer", "what was asked is left as it is"


def test_parts_of_text_are_joined_and_images_are_refused() -> None:
    parts: list[dict[str, Any]] = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert "<user>ab</>" in rendered(messages=[{"role": "user", "content": parts}])
    with pytest.raises(BadRequest, match="image_url; this model, as it is loaded, reads texts only") as refused:
        rendered(messages=[{"role": "user", "content": [*parts, {"type": "image_url"}]}])
    assert refused.value.param == "messages[0].content[2]"


SEES = (
    "{% for m in messages %}<{{ m.role }}>{% for c in m.content %}{% if c.type == 'image' %}[I]{% else %}{{ c.text }}"
    "{% endif %}{% endfor %}</>{% endfor %}"
)
ASKED: list[dict[str, Any]] = [
    {"role": "system", "content": "Look."},
    {"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "What?"}, {"type": "image_url"}]},
    {"role": "assistant", "content": "A cat"},
]


def test_a_template_for_images_is_given_parts_and_any_other_one_the_mark_of_an_image() -> None:
    assert (
        Template(SEES, {}, "<i>").render({"messages": ASKED})
        == "<system>Look.</><user>[I]What?[I]</><assistant>A cat</>"
    )
    plain = Template(CHATML, {"bos_token": "^"}, "<i>").render({"messages": ASKED[:2]})
    assert plain == "^<system>Look.</>\n<user><i>What?<i></>\n<assistant>"
    strict = "{% for m in messages %}{{ m.content + '' }}{% endfor %}"
    assert Template(strict, {}, "<i>").render({"messages": ASKED}) == "Look.<i>What?<i>A cat"
    goes_on = {"messages": ASKED, "continue_final_message": True}
    assert Template(SEES, {}, "<i>").render(goes_on).endswith("<assistant>A cat")
    tool = {"role": "tool", "content": "22 degrees"}
    text = "{% for m in messages %}{{ m.content if m.content is string else m.content[0].text }}{% endfor %}"
    assert Template(text, {}, "<i>").render({"messages": [*ASKED[:1], tool]}) == "Look.22 degrees"
    blind = Template(SEES, {}).render({"messages": [ASKED[0]]})
    assert blind == "<system>Look.</>", "a template that knows parts only gets them for texts too"
    with pytest.raises(BadRequest, match="reads texts and images"):
        Template(SEES, {}, "<i>").render({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]})


def test_arguments_of_calls_are_objects_for_the_template() -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": '{"a": 7}'}}
    assert "<assistant>7</>" in rendered(messages=[{"role": "assistant", "content": None, "tool_calls": [call]}])


def test_tools_are_shown_unless_none_may_be_called() -> None:
    tools = [{"type": "function", "function": {"name": "größe"}}]
    assert "größe" in rendered(tools=tools)
    assert "größe" not in rendered(tools=tools, tool_choice="none")


def test_the_last_message_can_be_gone_on_with() -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "I am "}]
    assert rendered(messages=messages, continue_final_message=True) == "^<user>hi</>\n<assistant>I am "
    with pytest.raises(BadRequest, match="last message"):
        rendered(continue_final_message=True)


def test_a_template_can_refuse() -> None:
    with pytest.raises(BadRequest, match="only users"):
        rendered("{{ raise_exception('only users') }}")


@pytest.mark.parametrize(
    "source",
    ["{{ messages.append(1) }}", "{{ ''.__class__.__mro__ }}", "{{ bos_token.format.__globals__ }}", "{{ 1/0 }}"],
)
def test_a_template_reaches_nothing(source: str) -> None:
    try:
        assert rendered(source) == ""
    except BadRequest as error:
        assert "template refuses" in error.message


def test_what_is_no_template_is_told() -> None:
    with pytest.raises(BadRequest, match="is none"):
        check("{% if %}")


def test_values_for_the_template_and_how_much_to_think() -> None:
    source = "{{ enable_thinking }} {{ reasoning_effort }} {{ mood }}{% generation %}!{% endgeneration %}"
    asked = {"reasoning_effort": "none", "chat_template_kwargs": {"mood": "good"}}
    assert rendered(source, **asked) == "False none good!"


def test_the_demo_models_own_template_works() -> None:
    source = Path("src/uml/models/demo-safetensors/chat_template.jinja").read_text("utf-8")
    assert rendered(source).endswith("<|im_start|>assistant\n")


def language(**more: Any) -> Language:
    """A model that reads bytes, and ends with token 0."""
    vocabulary = Vocabulary([b"", *(bytes([byte]) for byte in range(1, 256))], frozenset({0}), frozenset({0}))
    return Language(vocabulary, Marks(("<think>", "</think>")), Template(CHATML + "<think>", {}), **more)


def test_a_prompt_over_the_context_names_both_numbers() -> None:
    with pytest.raises(ContextLengthExceeded) as caught:
        language().ask({"prompt": "a" * 20}, 20)
    assert caught.value.details == {"prompt_tokens": 20, "context_length": 20}


def test_an_answer_gets_the_room_that_is_left() -> None:
    assert language().ask({"prompt": "aaa", "max_tokens": 100}, 20).most == 17
    assert language().ask({"prompt": [97, 98], "max_tokens": None}, 20).most == 18


def test_tokens_are_checked_and_a_prompt_begins_as_the_model_wants_it() -> None:
    with pytest.raises(BadRequest, match="999"):
        language().ask({"prompt": [999]}, 20)
    with pytest.raises(BadRequest, match="empty"):
        language().ask({"prompt": ""}, 20)
    assert language(begins=(1,)).encode("a") == [1, 97]
    assert language(begins=(1,)).encode("\x01a") == [1, 97]


def test_a_prompt_that_opens_a_thought_is_noticed() -> None:
    ask = language().ask({"messages": [{"role": "user", "content": "hi"}]}, 100)
    assert ask.thinking
    assert not language().ask({"prompt": "hi"}, 100).thinking


def test_without_a_template_chats_are_refused() -> None:
    bare = Language(language().vocabulary, Marks(), None)
    with pytest.raises(BadRequest, match="no chat template"):
        bare.ask({"messages": [{"role": "user", "content": "hi"}]}, 100)
