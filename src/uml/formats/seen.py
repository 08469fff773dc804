"""What a file is that is no model: a word for the user who thought it was one."""

from __future__ import annotations

from pathlib import Path

_STARTS = {
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"\xfd7zXZ\x00": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"Rar!": "a RAR archive",
    b"\x7fELF": "a program",
    b"MZ": "a program for Windows",
    b"%PDF": "a PDF document",
    b"\x89HDF": "an HDF5 file, as Keras writes",
    b"\x93NUMPY": "a NumPy array",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"SQLite format 3": "an SQLite database",
    b"ggsn": "a saved session of llama.cpp",
    b"ggsq": "a saved sequence of llama.cpp",
    b"\x80\x02": "a Python pickle, which is never loaded here",
    b"\x80\x03": "a Python pickle, which is never loaded here",
    b"\x80\x04": "a Python pickle, which is never loaded here",
    b"\x80\x05": "a Python pickle, which is never loaded here",
    b"<!DOCTYPE": "a web page; a download that failed often leaves one",
    b"<!doctype": "a web page; a download that failed often leaves one",
    b"<html": "a web page; a download that failed often leaves one",
    b"{": "a JSON text",
}

_EXPECTED = {".gguf": "'GGUF'", ".ggml": "'lmgg', 'fmgg' or 'tjgg'", ".safetensors": "a header length and '{'"}


def what_was_seen(path: Path, start: bytes) -> str:
    """One phrase about a file that begins so, told from its first bytes and what its name promised."""
    if not start:
        return "an empty file, as a download that failed leaves; download it again"
    named = f"; a {path.suffix} file begins with {_EXPECTED[path.suffix]}" if path.suffix in _EXPECTED else ""
    kind = next((kind for magic, kind in _STARTS.items() if start.startswith(magic)), "")
    if not kind and start[4:8] == b"TFL3":
        kind = "a TensorFlow Lite model"
    if not kind and not any(start[:64]):
        kind = "zeros, as an unfinished download leaves them"
    if not kind and _is_text(start):
        kind = "a text file"
    return f"{kind or 'no format that is known'}, beginning with {start[:8].hex(' ')}{named}"


def _is_text(start: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\n\r\f" for byte in start)
