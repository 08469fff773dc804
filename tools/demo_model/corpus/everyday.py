"""Tools as other people's programs define them: asked to know how far the model goes, never learned from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tools.demo_model.corpus.draw import Draw
from tools.demo_model.corpus.nouns import Family, Sample, user
from tools.demo_model.corpus.tool_kinds import CITY, DEGREES, FILE, HOUR, MINUTES, NAME, QUERY, ROOM, TEXT, TITLE, TOPIC
from tools.demo_model.corpus.toolbox import Value, of
from tools.demo_model.corpus.words import LANGUAGES, WORDS


@dataclass(frozen=True, slots=True)
class Function:
    """A function, and how it is asked for. params: name -> a value; a number is of type integer."""

    name: str
    about: str
    params: Mapping[str, Value]
    asked: str

    def definition(self, values: Mapping[str, str | int]) -> dict[str, Any]:
        """In OpenAI's shape; the types are those of the values."""
        properties = {
            name: {"type": "integer" if isinstance(value, int) else "string"} for name, value in values.items()
        }
        parameters = {"type": "object", "properties": properties, "required": list(properties)}
        return {
            "type": "function",
            "function": {"name": self.name, "description": self.about, "parameters": parameters},
        }


FUNCTIONS: Final = (
    Function(
        "get_current_weather",
        "Get the current weather in a given location",
        {"location": CITY.value},
        "What is the weather in {location}?",
    ),
    Function("get_time", "Returns the local time of a city", {"city": CITY.value}, "What time is it in {city}?"),
    Function(
        "set_timer",
        "Start a timer that rings after some minutes",
        {"minutes": MINUTES.value},
        "Set a timer for {minutes} minutes.",
    ),
    Function("set_alarm", "Set an alarm for a time of the day", {"time": HOUR.value}, "Set an alarm for {time}."),
    Function(
        "translate_text",
        "Translate text to another language",
        {"text": of(WORDS), "target_language": of(LANGUAGES)},
        "Translate {text} into {target_language}.",
    ),
    Function("play_music", "Play music by its name", {"song": TITLE.value}, "Play {song}."),
    Function(
        "send_email",
        "Send an email to a person",
        {"to": NAME.value, "body": TEXT.value},
        "Send an email to {to}: {body}",
    ),
    Function("get_news", "Get the latest news about something", {"topic": TOPIC.value}, "Any news about {topic}?"),
    Function("read_file", "Read the content of a file", {"path": FILE.value}, "Read the file {path}."),
    Function("delete_file", "Delete a file from the disk", {"path": FILE.value}, "Delete {path}."),
    Function("search_web", "Search the web for information", {"query": QUERY.value}, "Search the web for {query}."),
    Function("call_contact", "Call somebody on the phone", {"name": NAME.value}, "Call {name}."),
    Function(
        "set_temperature",
        "Set the temperature of the heating in a room",
        {"room": ROOM.value, "degrees": DEGREES.value},
        "Heat the {room} to {degrees} degrees.",
    ),
    Function("create_note", "Create a new note with a text", {"text": TEXT.value}, "Make a note: {text}"),
    Function("search_hotels", "Search for hotels in a city", {"city": CITY.value}, "Find a hotel in {city}."),
)


def _everyday(draw: Draw) -> Sample:
    """Two or three of them, of which one is asked for."""
    several = draw.some(FUNCTIONS, draw.pick((2, 2, 3)))
    wanted = draw.pick(several)
    values = {one.name: {name: value(draw) for name, value in one.params.items()} for one in several}
    arguments = values[wanted.name]
    function = {"name": wanted.name, "arguments": json.dumps(arguments, ensure_ascii=False)}
    call = {"id": "call_0", "type": "function", "function": function}
    messages = (
        user(wanted.asked.format(**arguments)),
        {"role": "assistant", "content": None, "tool_calls": [call]},
    )
    return Sample("", messages, tuple(one.definition(values[one.name]) for one in several))


EVERYDAY: Final = Family("everyday tools", 0, _everyday)
"""One call of a function as a program of today has it: no bar is set."""
