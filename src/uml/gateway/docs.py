"""`/docs`: the OpenAPI description as one plain page. It loads nothing, from here or from anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

_STYLE: Final = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c1c1c;background:#fff}
code,pre{font-family:ui-monospace,monospace;font-size:.9em}
summary{cursor:pointer;padding:.3rem 0}
details{border-top:1px solid #ccc;padding:.2rem 0}
table{border-collapse:collapse;width:100%;margin:.5rem 0}
td,th{text-align:left;vertical-align:top;padding:.2rem .6rem .2rem 0;border-top:1px solid #eee}
b.m{display:inline-block;width:4rem}
@media(prefers-color-scheme:dark){body{background:#161616;color:#e4e4e4}td,th{border-color:#333}a{color:#8ab4f8}}
"""


def page(schema: Mapping[str, Any]) -> str:
    """The page of an OpenAPI description."""
    info = schema["info"]
    body = "".join(_sections(schema))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{escape(info["title"])}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(info['title'])} {escape(info['version'])}</h1>"
        f"<p>{_text(info.get('description', ''))}</p>"
        f'<p>The same for programs: <a href="/openapi.json">/openapi.json</a></p>{body}</body></html>'
    )


def _sections(schema: Mapping[str, Any]) -> Iterator[str]:
    by_tag: dict[str, list[str]] = {}
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            tag = (operation.get("tags") or ["other"])[0]
            by_tag.setdefault(tag, []).append(_operation(path, method, operation, schema))
    for tag, operations in by_tag.items():
        yield f"<h2>{escape(tag)}</h2>{''.join(operations)}"
    error = schema["components"]["schemas"]["Error"]
    yield f"<h2>errors</h2><p>{_text(error['description'])}</p>"
    yield _table(error["properties"]["error"], schema)


def _operation(path: str, method: str, operation: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    parts = [
        f'<details><summary><b class="m">{method.upper()}</b> <code>{escape(path)}</code> '
        f"{_text(operation.get('summary', ''))}</summary>"
    ]
    parts += [
        f"<p><code>{escape(parameter['name'])}</code> ({parameter['in']}): "
        f"{_text(parameter.get('description', ''))} {_kind(parameter.get('schema', {}), schema)}</p>"
        for parameter in operation.get("parameters", ())
    ]
    request = _json_schema(operation.get("requestBody"), schema)
    if request:
        parts.append(f"<h4>Request</h4>{_table(request, schema)}")
    answer = _json_schema(operation["responses"].get("200"), schema)
    if answer.get("properties"):
        parts.append(f"<h4>Answer</h4>{_table(answer, schema)}")
    return "".join([*parts, "</details>"])


def _json_schema(holder: Mapping[str, Any] | None, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    found = ((holder or {}).get("content") or {}).get("application/json", {}).get("schema", {})
    return _resolved(found, schema)


def _resolved(part: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = part.get("$ref")
    if not reference:
        return part
    found: Mapping[str, Any] = schema["components"]["schemas"][reference.rpartition("/")[2]]
    return found


def _table(part: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    required = part.get("required", ())
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code>{' *' if name in required else ''}</td>"
        f"<td>{_kind(field, schema)}</td><td>{_text(_resolved(field, schema).get('description', ''))}</td></tr>"
        for name, field in part.get("properties", {}).items()
    )
    return f"<table><tr><th>field</th><th>type</th><th>what it is</th></tr>{rows}</table>"


def _kind(part: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    part = _resolved(part, schema)
    if "anyOf" in part:
        return " or ".join(_kind(option, schema) for option in part["anyOf"])
    kind = part.get("type", "any")
    words = " or ".join(kind) if isinstance(kind, list) else str(kind)
    if kind == "array" and part.get("items"):
        words = f"array of {_kind(part['items'], schema)}"
    if "enum" in part:
        words = ", ".join(str(value) for value in part["enum"])
    if "minimum" in part:
        most = f" to {part['maximum']:.10g}" if "maximum" in part else ""
        words += f" from {part['minimum']:.10g}{most}"
    return escape(words)


def _text(text: str) -> str:
    """Plain text with `code` in it."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if place % 2 else piece for place, piece in enumerate(pieces))
