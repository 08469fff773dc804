"""The official client against the demo model, over a real socket."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from tests.gateway.server import Server

JAPAN: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is the capital of Japan?"}]
ASKED, ANSWER = 17, 11
"""Tokens of that prompt and of its answer."""


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_it_chats(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="demo", messages=JAPAN, temperature=0)
    assert reply.choices[0].message.content == "The capital of Japan is Tokyo."
    assert reply.choices[0].finish_reason == "stop"
    assert reply.model == "demo"
    assert reply.usage is not None and reply.usage.completion_tokens == ANSWER and reply.usage.prompt_tokens == ASKED


def test_it_remembers_a_turn(client: openai.OpenAI) -> None:
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": "My name is Hugo."}]
    first = client.chat.completions.create(model="demo", messages=messages, temperature=0).choices[0].message.content
    messages += [{"role": "assistant", "content": first}, {"role": "user", "content": "What is my name?"}]
    second = client.chat.completions.create(model="demo", messages=messages, temperature=0).choices[0].message.content
    assert second is not None and "Hugo" in second


def test_it_streams_with_usage(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="demo", messages=JAPAN, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    text, finish, usage = "", None, None
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    assert (text, finish) == ("The capital of Japan is Tokyo.", "stop")
    assert usage is not None and usage.total_tokens == ASKED + ANSWER


def test_warnings_in_a_stream_do_not_disturb_the_client(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="demo", messages=JAPAN, temperature=0, stream=True, extra_body={"tfs": 0.5}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "The capital of Japan is Tokyo."
    assert chunks[0].model_extra is not None
    assert chunks[0].model_extra["warnings"][0]["param"] == "tfs"


def test_several_answers_are_counted_together(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="demo", messages=JAPAN, temperature=0, n=2)
    assert [choice.message.content for choice in reply.choices] == ["The capital of Japan is Tokyo."] * 2
    assert reply.usage is not None
    assert (reply.usage.completion_tokens, reply.usage.prompt_tokens) == (2 * ANSWER, ASKED)


def test_several_streamed_answers_are_counted_together(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="demo", messages=JAPAN, temperature=0, n=2, stream=True, stream_options={"include_usage": True}
    )
    texts, usages = {0: "", 1: ""}, []
    for chunk in stream:
        usages += [chunk.usage] if chunk.usage else []
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert set(texts.values()) == {"The capital of Japan is Tokyo."}
    assert [usage.completion_tokens for usage in usages] == [2 * ANSWER]


def test_it_completes_several_prompts(client: openai.OpenAI) -> None:
    reply = client.completions.create(model="demo", prompt=["One", "Two"], max_tokens=3, temperature=0, n=2)
    assert len(reply.choices) == 4
    assert all(choice.text for choice in reply.choices)
    assert reply.usage is not None and reply.usage.completion_tokens == sum(3 for _ in reply.choices)


def test_it_streams_completions(client: openai.OpenAI) -> None:
    stream = client.completions.create(model="demo", prompt=["One", "Two"], max_tokens=3, stream=True)
    assert {choice.index for chunk in stream for choice in chunk.choices} == {0, 1}


def test_it_embeds(client: openai.OpenAI) -> None:
    as_floats = client.embeddings.create(model="demo", input=["hello", "world"], encoding_format="float")
    as_bytes = client.embeddings.create(model="demo", input=["hello", "world"])
    assert len(as_floats.data) == 2 and len(as_floats.data[0].embedding) == 256
    assert as_bytes.data[0].embedding == pytest.approx(as_floats.data[0].embedding, abs=1e-5)


def test_a_text_model_learns_to_embed_when_asked(server: Server, client: openai.OpenAI) -> None:
    loaded = server.post("/v1/models/load", {"model": "demo", "options": {"embeddings": False}})
    assert loaded.json()["state"] == "ready"
    assert len(client.embeddings.create(model="demo", input="hello").data) == 1
    assert client.chat.completions.create(model="demo", messages=JAPAN, max_tokens=1).choices


def test_it_stops_at_a_text_and_repeats_itself_with_a_seed(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="demo", messages=JAPAN, temperature=0, stop=["Tokyo"])
    assert reply.choices[0].message.content == "The capital of Japan is "
    story: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Tell me a story about a wolf."}]
    told = {
        client.chat.completions.create(model="demo", messages=story, seed=7, max_tokens=30).choices[0].message.content
        for _ in range(2)
    }
    assert len(told) == 1


def test_it_tells_probabilities(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(
        model="demo", messages=JAPAN, temperature=0, logprobs=True, top_logprobs=2, max_tokens=3
    )
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    assert [len(token.top_logprobs) for token in logprobs.content] == [2, 2, 2]


def test_it_follows_a_schema(client: openai.OpenAI) -> None:
    question = "Extract as JSON: Ada is 36 years old and lives in London."
    reply = client.chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": question}],
        temperature=0,
        max_tokens=100,
        response_format={
            "type": "json_schema",
            "json_schema": {
                "name": "age",
                "schema": {
                    "type": "object",
                    "properties": {"age": {"type": "integer", "maximum": 99}},
                    "required": ["age"],
                    "additionalProperties": False,
                },
            },
        },
    )
    content = reply.choices[0].message.content
    assert content is not None and content.startswith('{"age"')


def tool(name: str, description: str) -> ChatCompletionToolParam:
    """One that takes a city."""
    parameters: dict[str, object] = {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    }
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS = [tool("get_weather", "Get the weather in a city"), tool("get_time", "Get the time in a city")]


def test_it_calls_a_tool(client: openai.OpenAI) -> None:
    question: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is the weather in Oslo?"}]
    whole = client.chat.completions.create(model="demo", messages=question, tools=TOOLS, temperature=0)
    twice = client.chat.completions.create(model="demo", messages=question, tools=TOOLS, temperature=0, n=2)
    for choice in (*whole.choices, *twice.choices):
        assert choice.finish_reason == "tool_calls"
        assert choice.message.tool_calls is not None
        call = choice.message.tool_calls[0]
        assert call.type == "function"
        assert (call.function.name, "Oslo" in call.function.arguments) == ("get_weather", True)
        assert call.id


def test_it_lists_models(client: openai.OpenAI) -> None:
    assert {"demo", "alpha"} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("demo").id == "demo"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")


def test_errors_are_the_clients_own(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="dmo", messages=JAPAN)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        client.chat.completions.create(model="demo", messages=[{"role": "user", "content": "abc " * 3000}])
    assert long.value.code == "context_length_exceeded"
    assert isinstance(long.value.body, dict)
    assert long.value.body["details"] == {"prompt_tokens": 6009, "context_length": 2048}


def test_the_function_that_was_chosen_is_called(client: openai.OpenAI) -> None:
    both = "What is the weather in Oslo? And then: What time is it in Oslo?"
    stream = client.chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": both}],
        tools=TOOLS,
        tool_choice={"type": "function", "function": {"name": "get_time"}},
        temperature=0,
        max_tokens=60,
        stream=True,
    )
    calls = [call for chunk in stream for choice in chunk.choices for call in choice.delta.tool_calls or ()]
    assert {call.function.name for call in calls if call.function and call.function.name} == {"get_time"}


def test_completions_tell_probabilities_in_the_legacy_lists(client: openai.OpenAI) -> None:
    reply = client.completions.create(model="demo", prompt="One two", temperature=0, max_tokens=3, logprobs=2)
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None and logprobs.tokens and logprobs.token_logprobs and logprobs.top_logprobs
    assert "".join(logprobs.tokens) == reply.choices[0].text
    assert logprobs.text_offset == [0, len(logprobs.tokens[0]), len(logprobs.tokens[0] + logprobs.tokens[1])]
    assert [len(likely) for likely in logprobs.top_logprobs] == [2, 2, 2]
    stream = client.completions.create(
        model="demo",
        prompt="One two",
        temperature=0,
        max_tokens=3,
        logprobs=2,
        stream=True,
        stream_options={"include_usage": True},
    )
    offsets, usages = [], []
    for chunk in stream:
        usages += [chunk.usage] if chunk.usage else []
        offsets += [at for choice in chunk.choices if choice.logprobs for at in choice.logprobs.text_offset or ()]
    assert offsets == logprobs.text_offset
    assert [usage.completion_tokens for usage in usages] == [3]


def test_a_chat_gets_no_alternatives_that_it_did_not_ask_for(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="demo", messages=JAPAN, temperature=0, logprobs=True, max_tokens=2)
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    assert [(bool(token.token), token.top_logprobs) for token in logprobs.content] == [(True, [])] * 2


def test_a_schema_that_is_none_is_refused(client: openai.OpenAI) -> None:
    for schema in ({"type": "nothing"}, {"$ref": "#/nowhere"}, {"$ref": "http://example.org/schema"}):
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(
                model="demo",
                messages=JAPAN,
                response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": dict(schema)}},
            )
        assert refused.value.param == "response_format"


def test_a_text_too_long_to_embed_is_told_by_its_length(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as long:
        client.embeddings.create(model="demo", input="abc " * 3000)
    assert (long.value.code, long.value.param) == ("context_length_exceeded", "input")
