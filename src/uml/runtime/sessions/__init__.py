"""Conversations that outlive their worker: saved, kept on disk, read back, and given room."""

from uml.runtime.sessions.saving import SAVE_LIMIT_S, Sessions, Sitting

__all__ = ["SAVE_LIMIT_S", "Sessions", "Sitting"]
