#!/bin/sh
# Makes a virtual environment with a pip that knows dependency groups.
#   sh tools/setup_venv.sh PYTHON FOLDER
set -eu
python=$1
folder=$2

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "error: $python is missing or older than Python 3.11; name another: make PYTHON=/path/to/python3.12 ..." >&2
    exit 1
fi

if [ ! -x "$folder/bin/python" ]; then
    echo "Setting up $folder (once) ..."
    # Debian keeps ensurepip in a package of its own; a system pip can stand in for it.
    if ! "$python" -m venv "$folder" >/dev/null 2>&1; then
        rm -rf "$folder"
        "$python" -m venv --without-pip "$folder"
        if ! "$python" -m pip --python "$folder/bin/python" install --quiet pip; then
            rm -rf "$folder"
            echo "error: this Python has neither venv with pip nor pip; on Debian: apt install python3-venv" >&2
            exit 1
        fi
    fi
fi

# Dependency groups came with pip 25.1.
if ! "$folder/bin/python" -c '
from importlib.metadata import version
import sys
sys.exit(tuple(map(int, version("pip").split(".")[:2])) < (25, 1))'; then
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
fi
