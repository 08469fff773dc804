"""One thread for each training of a test: several run at once, and threads that wait for each other would spin."""

import os

# Read when the library is loaded, which is after this.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
