"""Models made of others, as the faces see it: in smaller files, or in another format."""

from uml.workbench.converting import Converting, converted
from uml.workbench.quantizing import Quantizing, kinds_of, quantized

__all__ = ["Converting", "Quantizing", "converted", "kinds_of", "quantized"]
