"""The only place that puts rooms together: Settings -> House(registry, engines, supervisor)."""

from uml.house.house import House
from uml.house.library import Library
from uml.house.paths import path_in

__all__ = ["House", "Library", "path_in"]
