"""Who may ask: Host, Origin and key of a request, decided without effects."""

from uml.access.guard import Guard, check_bind, is_loopback

__all__ = ["Guard", "check_bind", "is_loopback"]
