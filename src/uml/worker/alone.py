"""A worker in an environment that has no `uml`: run by the path of this file, it makes this one package importable.

What lies beside the package (the libraries of the server's own environment) stays out of reach: no folder is added to
`sys.path`. Processes that the worker spawns run this file again, and so find the package too.
"""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path


def link(package: Path) -> None:
    """Let `import uml` find the package in this folder, unless there is one already."""
    if "uml" in sys.modules:
        return
    spec = spec_from_file_location("uml", package / "__init__.py", submodule_search_locations=[str(package)])
    assert spec is not None
    assert spec.loader is not None
    sys.modules["uml"] = module = module_from_spec(spec)
    spec.loader.exec_module(module)


link(Path(__file__).parents[1])

if __name__ == "__main__":
    from uml.worker.__main__ import main

    sys.exit(main(sys.argv[1:]))
