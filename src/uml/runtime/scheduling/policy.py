"""How patient the scheduler is: the settings that it decides by."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Times in seconds.

    queue_limit: requests that may wait.
    idle_unload_s: how long a model stays without a request where nothing else is said.
    turn_s: how long a model that another was evicted for keeps that other from evicting in its turn.
    turn_requests: how many requests may pass one that waits for their model's memory, after that time.
    retry_s, retry_limit_s: after a failed load it is not tried for so long; twice as long after the next.
    deaths: a worker that died so often is not started again by itself; 0: it always is.
    healthy_s: one that served for so long has made up for the deaths before.
    """

    queue_limit: int = 512
    idle_unload_s: float = math.inf
    turn_s: float = 5.0
    turn_requests: int = 8
    retry_s: float = 5.0
    retry_limit_s: float = 300.0
    deaths: int = 5
    healthy_s: float = 600.0
