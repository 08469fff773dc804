"""What a request asks of a model, said in the engine's words."""

from uml.generation.parameters import PARAMETERS, Endpoint, Parameter
from uml.generation.prepare import Prepared, prepare

__all__ = ["PARAMETERS", "Endpoint", "Parameter", "Prepared", "prepare"]
