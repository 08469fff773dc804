"""Kinds of tools that only come up in the end: who knows twenty-eight learns there to take any that fits."""

from __future__ import annotations

from typing import Final

from tools.demo_model.corpus.draw import Draw
from tools.demo_model.corpus.tool_kinds import DAY, END, EVENT, FILE, HOUR, NAME, QUERY, ROOM, START, TEXT, THING, TITLE
from tools.demo_model.corpus.toolbox import Param, Tool, among, names, number, of
from tools.demo_model.corpus.words import CITIES, WORDS


def _site(draw: Draw) -> str:
    return f"{draw.word(WORDS)}.{draw.pick(('com', 'org', 'net'))}"


def _company(draw: Draw) -> str:
    return draw.word(WORDS).capitalize()


SITE: Final = Param("site", ("url", "site", "page", "address"), "Address of the page", _site, "Which page?")
COMPANY: Final = Param("company", ("company", "symbol", "stock", "name"), "The company", _company, "Which company?")
PLACE: Final = Param("place", ("place", "address", "location", "to"), "Where to", of(CITIES), "Where to?")
RECEIVER: Final = Param("name", ("to", "recipient", "receiver", "address"), "Who gets it", NAME.value, "To whom?")

MORE_TOOLS: Final = (
    Tool(
        names("send write", "email mail"),
        "Send an email",
        (RECEIVER, TEXT),
        ("Send an email to {name}: {text}", "Email {name}: {text}", "Write a mail to {name} that says {text}."),
        ("Send an email.", "Write a mail."),
        {"status": among("sent")},
        "I sent the email to {name}.",
    ),
    Tool(
        names("search browse", "web internet online"),
        "Search the web",
        (QUERY,),
        ("Search the web for {query}.", "Look on the internet for {query}.", "Look up {query} online."),
        ("Search the web.", "Look something up online."),
        {"site": _site},
        "I found {site}.",
    ),
    Tool(
        names("open visit fetch", "page website url"),
        "Open a page of the web",
        (SITE,),
        ("Open {site}.", "Go to {site}.", "What does the page {site} say?"),
        ("Open a page.", "Go to a website."),
        {"title": _company},
        "The page {site} is about {title}.",
    ),
    Tool(
        names("add set create", "reminder reminders"),
        "Remind of something at a time",
        (EVENT, HOUR),
        (
            "Remind me of {title} at {time}.",
            "Set a reminder for {title} at {time}.",
            "At {time}, remind me of {title}.",
        ),
        ("Remind me of something.", "Set a reminder."),
        {"status": among("set")},
        "I will remind you of {title} at {time}.",
    ),
    Tool(
        names("add put", "shopping_list list_item"),
        "Put something on the shopping list",
        (THING,),
        ("Put a {item} on my shopping list.", "Add {item} to the list.", "We need a {item}, put it on the list."),
        ("Put something on my list.",),
        {"count": number(1, 20)},
        "The {item} is on your list of {count} things.",
    ),
    Tool(
        names("get check show", "stock_price stock share_price"),
        "Get the price of a stock",
        (COMPANY,),
        ("What is the stock price of {company}?", "How is the stock of {company} doing?", "Price of {company} shares?"),
        ("What is the stock price?",),
        {"price": number(2, 900)},
        "A share of {company} costs {price} dollars.",
    ),
    Tool(
        names("find get search", "train trains"),
        "Find a train",
        (START, END),
        ("Is there a train from {start} to {end}?", "Find a train from {start} to {end}."),
        ("Find a train.", "I want to go by train."),
        {"time": HOUR.value},
        "The train from {start} to {end} leaves at {time}.",
    ),
    Tool(
        names("order call get", "taxi cab ride"),
        "Order a taxi",
        (PLACE, HOUR),
        (
            "I need a taxi to {place} at {time}.",
            "Order a taxi to {place} for {time}.",
            "Get me a cab to {place} at {time}.",
        ),
        ("I need a taxi.", "Order a taxi."),
        {"status": among("ordered")},
        "A taxi to {place} comes at {time}.",
    ),
    Tool(
        names("watch show", "movie film video"),
        "Show a movie",
        (TITLE,),
        ("Show the movie {title}.", "I want to watch {title}.", "Show me the film {title}."),
        ("Show a movie.", "I want to watch something."),
        {"status": among("playing")},
        "The movie {title} begins.",
    ),
    Tool(
        names("write save", "file text_file"),
        "Write a text into a file",
        (FILE, TEXT),
        ("Write {text} into {file}.", "Save {text} in the file {file}.", "Put {text} into {file}."),
        ("Write a file.", "Save this in a file."),
        {"bytes": number(2, 90)},
        "I wrote {bytes} bytes to {file}.",
    ),
    Tool(
        names("turn_off switch_off", "light lights"),
        "Turn off the light in a room",
        (ROOM,),
        ("Turn off the light in the {room}.", "No light in the {room}, please.", "It is too bright in the {room}."),
        ("Turn off the light.", "Switch the light off."),
        {"status": among("off")},
        "The light in the {room} is off.",
    ),
    Tool(
        names("get show list", "events calendar agenda"),
        "Show what is in the calendar",
        (DAY,),
        ("What do I have to do on {day}?", "What is in my calendar on {day}?", "Am I free on {day}?"),
        ("What is in my calendar?",),
        {"title": _company},
        "On {day} you have {title}.",
    ),
)
