"""What a request asks of a model, said in the engine's words."""

from uml.generation.capabilities import capabilities
from uml.generation.kinds import check_kind
from uml.generation.parameter import Endpoint, Parameter
from uml.generation.parameters import PARAMETERS, only
from uml.generation.prepare import Checked, Prepared, check, prepare
from uml.generation.roles import check_roles

__all__ = [
    "PARAMETERS",
    "Checked",
    "Endpoint",
    "Parameter",
    "Prepared",
    "capabilities",
    "check",
    "check_kind",
    "check_roles",
    "only",
    "prepare",
]
