"""Every machine of a cluster is asked once whether it could work, and nobody works."""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence
from concurrent.futures import wait
from dataclasses import replace
from typing import Any

from cxr_dicom.cohort.cluster.proxy import Proxy, cause_of_death
from cxr_dicom.cohort.engine import Item, Result, Task
from cxr_dicom.cohort.worker import Worker
from cxr_dicom.errors import CxrDicomError

_TIMEOUT = 180.0  # seconds for all machines, in which each loads the models once


def asked(ray: Any, options: dict[str, Any], task: Task[Item, Result]) -> Sequence[Worker]:
    """Return what every machine with CPUs says, in the order of their names; ``refused`` is why it could not work."""
    pickled = ray.put(pickle.dumps(task))
    machines = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    proxies: dict[str, Proxy[Item]] = {}
    for node in machines:
        strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        mine = options | {"num_cpus": 0, "scheduling_strategy": strategy}  # a machine that is busy answers too
        proxies[node["NodeID"]] = Proxy[Item](ray, mine, pickled)
    names = {node["NodeID"]: str(node["NodeManagerHostname"]) for node in machines}
    until = time.monotonic() + _TIMEOUT
    try:
        found = [
            _answer(ray, proxy, Worker(host=names[node], node=node), task, until) for node, proxy in proxies.items()
        ]
    finally:
        for proxy in proxies.values():
            proxy.end()
    return sorted(found, key=lambda worker: (worker.host, worker.node))


def _answer(ray: Any, proxy: Proxy[Item], unknown: Worker, task: Task[Item, Any], until: float) -> Worker:
    try:
        for hear in (proxy.came, proxy.started):
            (news,) = proxy.expected
            if not wait([news], timeout=max(0.0, until - time.monotonic())).done:
                return replace(unknown, refused=f"no answer in {_TIMEOUT:g} s")
            worker = hear(news)
        return replace(worker, refused=task.refusal(worker)) if worker else unknown
    except CxrDicomError as error:
        return replace(unknown, refused=str(error))
    except ray.exceptions.RayError as error:
        return replace(unknown, refused=f"its worker died: {cause_of_death(error)}")
