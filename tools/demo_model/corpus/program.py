"""Questions about this program, answered with commands of docs/cli.md."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from tools.demo_model.corpus.draw import Draw
from tools.demo_model.corpus.nouns import Reply, Sample, exchange


@dataclass(frozen=True, slots=True)
class Topic:
    """One thing to do. does: ends `How do I ...?`; tells: ends `Which command ...?`; asks: whole questions."""

    command: str
    does: tuple[str, ...]
    tells: tuple[str, ...] = ()
    asks: tuple[str, ...] = ()


TOPICS: Final = (
    Topic(
        "uml load MODEL",
        ("load a model", "load my model", "get a model into memory"),
        ("loads a model",),
        ("How can a model be loaded?",),
    ),
    Topic(
        "uml unload MODEL",
        ("unload a model", "free the memory of a model", "remove a model from memory"),
        ("unloads a model", "frees memory"),
    ),
    Topic(
        "uml unload --all", ("unload all models", "unload everything", "unload every model"), ("unloads all models",)
    ),
    Topic(
        "uml ps",
        ("see loaded models", "see how much memory is used", "see which models are running", "see what is loaded"),
        ("shows memory", "shows loaded models", "shows what is running", "shows how much memory is used"),
        ("Which models are loaded?", "What is loaded now?"),
    ),
    Topic(
        "uml ls",
        ("list my models", "see all models", "list the models there are", "find out which models I have"),
        ("lists models", "shows all models"),
        ("Which models do I have?",),
    ),
    Topic(
        "uml run MODEL",
        ("chat with a model", "talk to a model", "start a chat", "ask a model"),
        ("starts a chat", "lets me talk to a model"),
    ),
    Topic(
        "uml serve",
        ("start the server", "run the server", "serve models", "open the API"),
        ("starts the server", "serves models"),
    ),
    Topic("uml serve --port 9000", ("change the port", "serve on another port", "use port 9000"), ("sets the port",)),
    Topic(
        "uml serve --host 0.0.0.0 --api-key KEY",
        ("open the server to other machines", "serve on my network", "reach the server from another computer"),
        ("opens the server to the network",),
    ),
    Topic(
        "uml serve --api-key KEY",
        ("protect the server with a key", "set an API key", "ask clients for a key"),
        ("sets the API key",),
    ),
    Topic(
        "uml serve --memory-budget 24GiB",
        ("limit the memory of all models", "set a memory budget"),
        ("limits memory", "sets the memory budget"),
    ),
    Topic(
        "uml serve --llama-server PATH",
        ("use my own llama-server", "use another llama.cpp", "use a llama-server of mine"),
    ),
    Topic("uml stop", ("stop the server", "end the server", "shut the server down"), ("stops the server",)),
    Topic("uml stop --force", ("kill the server", "stop a server that hangs"), ("kills the server",)),
    Topic(
        "uml logs MODEL",
        ("see the log of a model", "read the logs", "see what the engine wrote"),
        ("shows the logs", "shows what the engine wrote"),
    ),
    Topic("uml logs --follow", ("follow the logs", "watch the logs"), ("follows the logs",)),
    Topic(
        "uml scan FOLDER",
        ("add a folder with models", "find models in a folder", "add my model folder", "scan a folder"),
        ("adds a folder", "finds models in a folder"),
    ),
    Topic(
        "uml inspect MODEL",
        ("see what a file is", "inspect a model", "see the quantization of a model", "see what is in a model file"),
        ("inspects a model", "tells what a file is", "shows the quantization"),
    ),
    Topic(
        "uml estimate MODEL",
        (
            *("see if a model fits", "estimate memory", "find out how much memory a model needs"),
            "check if a model fits into memory",
        ),
        ("estimates memory", "tells if a model fits"),
        ("How much memory does a model need?", "Does my model fit?", "Will it fit into memory?"),
    ),
    Topic(
        "uml doctor",
        ("check my machine", "find out what is wrong", "check the setup", "find problems"),
        ("checks the machine", "finds problems"),
        ("Something does not work. What now?", "It does not work."),
    ),
    Topic(
        "uml version", ("see the version", "print the version"), ("prints the version",), ("Which version is this?",)
    ),
    Topic(
        "uml load MODEL --ctx 2048",
        ("set the context length", "change the context size", "load a model with a smaller context"),
        ("sets the context length",),
    ),
    Topic(
        "uml load MODEL --parallel 4",
        ("answer four requests at once", "serve several users at once", "set parallel requests"),
    ),
    Topic(
        "uml load MODEL --gpu-layers 20",
        ("put layers on the GPU", "use the GPU for some layers", "set the GPU layers"),
    ),
    Topic("uml load MODEL --lora PATH", ("use a LoRA adapter", "load a LoRA", "add an adapter")),
    Topic(
        "uml load MODEL --draft-model PATH",
        ("use a draft model", "use speculative decoding", "make a model faster with a draft"),
    ),
    Topic(
        "uml load MODEL --cache-type-k q8_0",
        ("make the cache smaller", "quantize the cache", "save memory in the cache"),
    ),
    Topic("uml load MODEL --threads 4", ("set the threads", "use four threads", "limit the threads")),
    Topic("uml run MODEL --temperature 0", ("set the temperature", "always get the likeliest answer")),
    Topic("uml run MODEL --seed 1", ("set the seed", "get the same answer again")),
    Topic("uml run MODEL --max-tokens 100", ("limit the length of an answer", "set the most tokens of an answer")),
    Topic('uml run MODEL --system "TEXT"', ("set a system message", "give a system prompt")),
    Topic("uml run MODEL --json-schema FILE", ("get an answer by a JSON schema", "use a JSON schema")),
    Topic("uml ls --json", ("get JSON from a command", "get the list of models as JSON")),
    Topic("uml run MODEL --option help", ("see all load options", "list the load options"), ("lists load options",)),
)
MORE_TOPICS: Final = (
    Topic(
        "uml quantize MODEL --to q4_k_m",
        ("quantize a model", "make a model smaller", "make a smaller file of a model"),
        ("quantizes a model", "makes a model smaller"),
    ),
    Topic(
        "uml convert MODEL --to gguf",
        ("convert a model to GGUF", "make a GGUF file", "turn safetensors into GGUF", "convert a model"),
        ("converts a model", "makes a GGUF file"),
    ),
    Topic("uml convert MODEL --to onnx", ("convert a model to ONNX", "make an ONNX model"), ("makes an ONNX model",)),
    Topic("uml engine install vllm", ("install vLLM", "get vLLM", "install the engine vLLM"), ("installs vLLM",)),
    Topic(
        "uml engine install transformers",
        ("install Transformers", "get Transformers", "install an engine"),
        ("installs Transformers", "installs an engine"),
    ),
    Topic(
        "uml engine ls",
        ("list the engines", "see which engines there are", "see installed engines"),
        ("lists engines", "shows the engines"),
        ("Which engines are there?", "Which engines do I have?"),
    ),
    Topic("uml pin MODEL", ("keep a model in memory", "pin a model", "keep a model loaded"), ("pins a model",)),
    Topic("uml unpin MODEL", ("unpin a model", "let a pinned model go"), ("unpins a model",)),
    Topic("uml alias NAME MODEL", ("rename a model", "give a model another name"), ("renames a model",)),
    Topic("uml forget MODEL", ("forget a model", "remove a model from the list"), ("forgets a model",)),
    Topic("uml profile MODEL --ctx 2048", ("save the options of a model", "save load options"), ("saves options",)),
    Topic("uml plugin ls", ("list plug-ins", "see my plug-ins"), ("lists plug-ins",)),
)
"""What only comes up in the end."""
MORE_ABOUT: Final = {
    "Models are not downloaded here. Put the file into a folder and use `uml scan FOLDER`.": (
        *("How do I download a model?", "How can I download a model?", "How do I pull a model?", "Download a model."),
        *("Can this program download models?", "Where do I get models?", "How do I get a new model?"),
    ),
    "Type `uml --help`: it lists all commands.": (
        *("How do I see all commands?", "Which commands are there?", "List the commands.", "What can I type?"),
        *("Where is help?", "How do I get help?"),
    ),
    "No. It runs on the processor too.": (
        *("Do I need a GPU?", "Is a GPU needed?", "Does it need a GPU?", "Must I have a graphics card?"),
    ),
    "Yes. It works without the net.": (
        *("Does it work offline?", "Can I use it offline?", "Does it run without the internet?"),
    ),
}
ABOUT: Final = {
    "Universal Model Loader is a local server that loads models and answers every client.": (
        *("What is Universal Model Loader?", "What is this program?", "What does this program do?", "What is uml?"),
    ),
    "The server listens on http://127.0.0.1:8080.": (
        *("Where does the server listen?", "What is the address of the server?", "Which port does the server use?"),
        *("What is the URL of the server?", "On which port is the API?"),
    ),
    "No. Nothing leaves your machine.": (
        *("Does my data leave my machine?", "Is my data sent somewhere?", "Does this program send data away?"),
        *("Do you send my data away?",),
    ),
    "It loads GGUF files and recognises many other formats.": (
        *("Which formats can it load?", "Which model formats are supported?", "What formats does this program know?"),
        *("Which files can I load?",),
    ),
}


def questions(topic: Topic) -> tuple[str, ...]:
    """Every way to ask for it."""
    ways = ("How do I {}?", "How can I {}?", "How to {}?", "I want to {}. How?", "What do I type to {}?")
    does = [way.format(does) for does in topic.does for way in ways]
    tells = [f"{which} command {tells}?" for tells in topic.tells for which in ("Which", "What")]
    return (*does, *tells, *topic.asks)


_QUESTIONS: Final = {topic.command: questions(topic) for topic in TOPICS}
_COMMAND: Final = re.compile(r"`(uml [^`]+)`")


def command_in(reply: Reply) -> str | None:
    """The command that an answer gives."""
    match = _COMMAND.search(reply.content)
    return match[1] if match else None


def program(draw: Draw) -> Sample:
    """A question about this program; right is the right command, or the right sentence."""
    if draw.chance(0.1):
        answer = draw.pick(tuple(ABOUT))
        return exchange(draw.say(draw.pick(ABOUT[answer])), answer)
    command = draw.pick(TOPICS).command
    sample = exchange(draw.say(draw.pick(_QUESTIONS[command])), f"Use `{command}`.")
    return Sample(sample.key, sample.messages, check=lambda reply: command_in(reply) == command)
