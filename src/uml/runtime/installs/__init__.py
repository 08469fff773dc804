"""Engine environments: made whole or not at all, several versions side by side, one in use."""

from uml.runtime.installs.shelf import Installs

__all__ = ["Installs"]
