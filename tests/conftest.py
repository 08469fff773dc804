"""What holds for every test."""

from __future__ import annotations

import os

# Imported now: its plugin imports it at the very end otherwise, when CPython 3.11 may trip over
# objects that are collected while a module is parsed (cpython issue 106905).
from hypothesis import HealthCheck, settings

settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# What lands must not hang on luck: there the examples are the same every time.
settings.register_profile("ci", settings.get_profile("here"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")
