"""How many replicas there are to be, from the sessions in use; asked by Ray Serve's controller.

Ray Serve chooses itself which replica it ends, and knows nothing of sessions. So none is ended while anybody works.
"""

from __future__ import annotations

import math
from typing import Any


class BySessions:
    """As many replicas as give each so many sessions; fewer again only when there is no session in use at all.

    Parameters
    ----------
    sessions : int
        Of one replica, above which there is to be another one.
    """

    def __init__(self, sessions: int) -> None:
        self._sessions = sessions

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """How many there are to be; `context` is Ray Serve's AutoscalingContext."""
        told = context.aggregated_metrics.get("sessions", {})
        everybody = set(told) >= set(context.running_replicas)
        in_use = math.ceil(sum(told.values()))
        wanted = math.ceil(in_use / self._sessions)
        if in_use or not everybody:
            wanted = max(wanted, context.target_num_replicas)
        low, high = context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas
        return min(max(wanted, low), high), {}
