"""`python -m uml` is `uml`."""

import sys

from uml.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
