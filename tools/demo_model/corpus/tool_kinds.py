"""The kinds of tools that the corpus knows: twenty-eight, each under several names."""

from __future__ import annotations

from typing import Final

from tools.demo_model.corpus.draw import Draw
from tools.demo_model.corpus.toolbox import Param, Tool, Value, among, names, number, of
from tools.demo_model.corpus.words import (
    CITIES,
    DAYS,
    DISHES,
    LANGUAGES,
    NAMES,
    ROOMS,
    THINGS,
    TOPICS,
    WORDS,
)


def _phrase(draw: Draw) -> str:
    words = [draw.word(WORDS) for _ in range(draw.between(1, 3))]
    # Of a short list of words one comes twice now and then; of all that can be invented, never by itself.
    if draw.split == "train" and draw.habits.echoed and draw.chance(draw.habits.echoed):
        words.insert(draw.between(0, len(words)), draw.pick(words))
    return " ".join(words)


def _hour(draw: Draw) -> str:
    return f"{draw.between(0, 23):02}:{draw.between(0, 11) * 5:02}"


def _file(draw: Draw) -> str:
    return f"{draw.word(WORDS)}.{draw.pick(('txt', 'md', 'json', 'csv', 'py'))}"


CITY: Final = Param("city", ("city", "location", "place", "town"), "Name of the city", of(CITIES), "Which city?")
NAME: Final = Param("name", ("name", "person", "contact", "recipient"), "Name of the person", of(NAMES), "Who?")
ROOM: Final = Param("room", ("room", "area", "place"), "Name of the room", of(ROOMS), "Which room?")
WORD: Final = Param("word", ("word", "term"), "The word", of(WORDS), "Which word?")
TITLE: Final = Param("title", ("title", "song", "track", "name"), "Title", _phrase, "Which title?")
QUERY: Final = Param("query", ("query", "text", "pattern", "keywords"), "What to look for", _phrase, "What for?")
TEXT: Final = Param("text", ("text", "content", "body", "message"), "The text", _phrase, "What should it say?")
SOURCE: Final = Param("text", ("text", "phrase", "content", "message"), "The text", _phrase, "Which text?")
EVENT: Final = Param("title", ("title", "event", "name", "summary"), "What happens", _phrase, "Which event?")
FILE: Final = Param("file", ("path", "file", "filename", "file_name"), "Name of the file", _file, "Which file?")
DAY: Final = Param("day", ("day", "date", "weekday"), "The day", of(DAYS), "On which day?")
HOUR: Final = Param("time", ("time", "at", "hour"), "Time of the day", _hour, "At what time?")
DISH: Final = Param("dish", ("dish", "food", "meal", "name"), "Name of the dish", of(DISHES), "Which dish?")
THING: Final = Param("item", ("item", "product", "thing", "article"), "The item", of(THINGS), "Which item?")
TOPIC: Final = Param("topic", ("topic", "subject", "category"), "The topic", of(TOPICS), "Which topic?")
START: Final = Param("start", ("from", "origin", "start", "departure"), "Where from", of(CITIES), "Where from?")
END: Final = Param("end", ("to", "destination", "end", "arrival"), "Where to", of(CITIES), "Where to?")
LANGUAGE: Final = Param(
    "language", ("language", "target_language", "to"), "The language", of(LANGUAGES), "Into which language?"
)


def _count(slot: str, names: tuple[str, ...], about: str, value: Value, missing: str) -> Param:
    return Param(slot, names, about, value, missing, "integer")


MINUTES: Final = _count("minutes", ("minutes", "duration", "length"), "Minutes", number(1, 90), "How many minutes?")
DEGREES: Final = _count(
    "degrees", ("degrees", "temperature", "value", "target"), "Degrees", number(15, 28), "How many degrees?"
)
PEOPLE: Final = _count(
    "people", ("people", "guests", "seats", "persons"), "How many", number(2, 12), "How many people?"
)
AMOUNT: Final = _count("amount", ("amount", "value", "sum"), "The amount", number(2, 900), "How much?")
LEVEL: Final = _count("level", ("level", "volume", "value", "percent"), "0 to 100", number(1, 100), "Which level?")
SIDES: Final = _count("sides", ("sides", "faces"), "Number of sides", number(4, 20), "How many sides?")
A: Final = _count("a", ("a", "x", "first"), "First number", number(11, 99), "Which numbers?")
B: Final = _count("b", ("b", "y", "second"), "Second number", number(11, 99), "Which numbers?")

TOOLS: Final = (
    Tool(
        names("get fetch check", "weather forecast"),
        "Get the weather in a city",
        (CITY,),
        (
            "What is the weather in {city}?",
            "How is the weather in {city}?",
            "Is it cold in {city}?",
            "Weather in {city}?",
        ),
        ("What is the weather?", "How is the weather?"),
        {"degrees": number(1, 35), "sky": among("sunny", "cloudy", "rainy", "windy", "foggy")},
        "It is {degrees} degrees and {sky} in {city}.",
    ),
    Tool(
        names("get tell show", "time clock"),
        "Get the time in a city",
        (CITY,),
        ("What time is it in {city}?", "Tell me the time in {city}.", "How late is it in {city}?"),
        ("What time is it there?", "Tell me the time."),
        {"time": _hour},
        "It is {time} in {city}.",
    ),
    Tool(
        names("search find locate", "files documents"),
        "Search files by text",
        (QUERY,),
        ("Search my files for {query}.", "Find files about {query}.", "Which files mention {query}?"),
        ("Search my files.", "Find a file for me."),
        {"file": _file},
        "I found {file}.",
    ),
    Tool(
        names("play start", "music song"),
        "Play a song",
        (TITLE,),
        ("Play {title}.", "Play the song {title}.", "I want to hear the song {title}.", "Put on {title}."),
        ("Play a song.", "Play music."),
        {"status": among("playing")},
        "I am playing {title}.",
    ),
    Tool(
        names("set start create", "timer countdown"),
        "Set a timer",
        (MINUTES,),
        ("Set a timer for {minutes} minutes.", "Wake me in {minutes} minutes.", "Start a timer of {minutes} minutes."),
        ("Set a timer.", "Start a timer."),
        {"status": among("set")},
        "The timer is set for {minutes} minutes.",
    ),
    Tool(
        names("set add create", "alarm alarm_clock"),
        "Set an alarm",
        (HOUR,),
        ("Set an alarm for {time}.", "Wake me at {time}.", "I need an alarm at {time}."),
        ("Set an alarm.", "Wake me up tomorrow."),
        {"status": among("set")},
        "The alarm is set for {time}.",
    ),
    Tool(
        names("send write", "message text_message"),
        "Send a message to a person",
        (NAME, TEXT),
        ("Send {name} the message {text}.", "Write to {name}: {text}", "Tell {name} this: {text}"),
        ("Send a message.",),
        {"status": among("sent")},
        "I sent the message to {name}.",
    ),
    Tool(
        names("call phone ring", "person contact"),
        "Call a person",
        (NAME,),
        ("Call {name}.", "Phone {name}.", "Give {name} a call.", "I want to speak to {name} on the phone."),
        ("Make a call.", "Call somebody."),
        {"status": among("calling")},
        "I am calling {name}.",
    ),
    Tool(
        names("translate", "text phrase words"),
        "Translate a text",
        (SOURCE, LANGUAGE),
        ("Translate {text} into {language}.", "What is {text} in {language}?", "Say {text} in {language}."),
        ("Translate something.",),
        {"translation": _phrase},
        "In {language} it is: {translation}",
    ),
    Tool(
        names("create add save write", "note memo"),
        "Write a note",
        (TEXT,),
        ("Make a note: {text}", "Note this down: {text}", "Save a note that says {text}."),
        ("Make a note.", "Save a note."),
        {"id": number(1, 99)},
        "I saved note {id}.",
    ),
    Tool(
        names("turn_on switch_on", "light lights"),
        "Turn on the light in a room",
        (ROOM,),
        ("Turn on the light in the {room}.", "Light in the {room}, please.", "It is dark in the {room}."),
        ("Turn on the light.", "Switch the light on."),
        {"status": among("on")},
        "The light in the {room} is on.",
    ),
    Tool(
        names("set change", "temperature heating"),
        "Set the temperature of a room",
        (ROOM, DEGREES),
        (
            "Heat the {room} to {degrees} degrees.",
            "Set the {room} to {degrees} degrees.",
            "Make it {degrees} degrees in the {room}.",
        ),
        ("Set the heating.",),
        {"status": among("set")},
        "The {room} is set to {degrees} degrees.",
    ),
    Tool(
        names("set change adjust", "volume"),
        "Set the volume",
        (LEVEL,),
        ("Set the volume to {level}.", "Volume {level}.", "Make the volume {level} percent."),
        ("Change the volume.", "Set the volume."),
        {"status": among("set")},
        "The volume is {level}.",
    ),
    Tool(
        names("book reserve", "table restaurant"),
        "Book a table in a restaurant",
        (PEOPLE, DAY),
        (
            "Book a table for {people} people on {day}.",
            "Reserve a table on {day} for {people}.",
            "We are {people} and want to eat out on {day}.",
        ),
        ("Book a table.", "Reserve a table."),
        {"time": _hour},
        "A table for {people} is booked on {day} at {time}.",
    ),
    Tool(
        names("find get search", "recipe recipes"),
        "Find a recipe",
        (DISH,),
        ("How do I cook {dish}?", "Find a recipe for {dish}.", "Give me a recipe for {dish}."),
        ("Find a recipe.", "I want to cook something."),
        {"minutes": number(10, 90)},
        "The recipe for {dish} takes {minutes} minutes.",
    ),
    Tool(
        names("order buy purchase", "item product"),
        "Order a product",
        (THING,),
        ("Order a {item}.", "Buy a {item} for me.", "I need a new {item}, order one."),
        ("Order something.", "Buy me something."),
        {"price": number(2, 300)},
        "I ordered the {item} for {price} dollars.",
    ),
    Tool(
        names("find get search", "flight flights"),
        "Find a flight",
        (START, END),
        (
            "Find a flight from {start} to {end}.",
            "I want to fly from {start} to {end}.",
            "Is there a flight from {start} to {end}?",
        ),
        ("Find a flight.", "I want to fly."),
        {"price": number(50, 900)},
        "The flight from {start} to {end} costs {price} dollars.",
    ),
    Tool(
        names("get measure", "distance route_length"),
        "Get the distance of two cities in kilometers",
        (START, END),
        ("How far is it from {start} to {end}?", "What is the distance from {start} to {end}?"),
        ("How far is it?",),
        {"kilometers": number(20, 9000)},
        "From {start} to {end} it is {kilometers} kilometers.",
    ),
    Tool(
        names("get show fetch", "news headlines"),
        "Get news about a topic",
        (TOPIC,),
        ("What is the news about {topic}?", "Show me news about {topic}.", "Any news about {topic}?"),
        ("Show me the news.", "Any news?"),
        {"headline": _phrase},
        "The news about {topic}: {headline}",
    ),
    Tool(
        names("add create plan", "event calendar_event"),
        "Add an event to the calendar",
        (EVENT, DAY),
        ("Add {title} to my calendar on {day}.", "Plan {title} for {day}.", "Put {title} into my calendar on {day}."),
        ("Add an event.",),
        {"status": among("added")},
        "I added {title} on {day}.",
    ),
    Tool(
        names("read open show", "file"),
        "Read a file",
        (FILE,),
        ("Read the file {file}.", "What is in {file}?", "Open {file}.", "Show me {file}."),
        ("Read a file.", "Open the file."),
        {"content": _phrase},
        "The file says: {content}",
    ),
    Tool(
        names("delete remove erase", "file"),
        "Delete a file",
        (FILE,),
        ("Delete {file}.", "Remove the file {file}.", "I do not need {file} any more, delete it."),
        ("Delete a file.", "Remove the file."),
        {"status": among("deleted")},
        "I deleted {file}.",
    ),
    Tool(
        names("define look_up explain", "word"),
        "Look a word up in the dictionary",
        (WORD,),
        ("What does {word} mean?", "Define {word}.", "Look up the word {word}."),
        ("Look up a word.", "What does the word mean?"),
        {"meaning": _phrase},
        "It means: {meaning}",
    ),
    Tool(
        names("multiply", "numbers two_numbers"),
        "Multiply two numbers",
        (A, B),
        ("What is {a} times {b}?", "Multiply {a} and {b}.", "Compute {a} * {b}."),
        ("Multiply two numbers.",),
        {"result": number(121, 9801)},
        "{a} times {b} is {result}.",
    ),
    Tool(
        names("roll throw", "die dice"),
        "Roll a die",
        (SIDES,),
        ("Roll a die with {sides} sides.", "Throw a die of {sides} sides.", "I need a roll of a {sides}-sided die."),
        ("Roll a die.", "Throw a die."),
        {"result": number(1, 20)},
        "The die shows {result}.",
    ),
    Tool(
        names("convert change", "dollars to_euros"),
        "Convert dollars to euros",
        (AMOUNT,),
        (
            "How many euros are {amount} dollars?",
            "Convert {amount} dollars to euros.",
            "What are {amount} dollars in euros?",
        ),
        ("Convert my dollars to euros.",),
        {"euros": number(2, 900)},
        "{amount} dollars are {euros} euros.",
    ),
    Tool(
        names("get count", "population inhabitants"),
        "Get how many people live in a city",
        (CITY,),
        ("How many people live in {city}?", "What is the population of {city}?", "How big is {city}?"),
        ("How many people live there?",),
        {"population": number(1000, 9999)},
        "{population} thousand people live in {city}.",
    ),
    Tool(
        names("find get search", "hotel hotels"),
        "Find a hotel in a city",
        (CITY,),
        ("Find a hotel in {city}.", "I need a hotel in {city}.", "Where can I sleep in {city}?"),
        ("Find a hotel.", "I need a hotel."),
        {"hotel": lambda draw: f"Hotel {draw.word(WORDS).capitalize()}", "price": number(30, 300)},
        "{hotel} in {city} costs {price} dollars.",
    ),
)
