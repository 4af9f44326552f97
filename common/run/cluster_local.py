"""Dask's scheduler and workers on this machine: what ``--cluster N`` starts."""

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any

LOOPBACK = "127.0.0.1"
# Ctrl-C reaches all processes of a terminal; workers end when the process that started them does.
UNINTERRUPTED = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@contextlib.contextmanager
def local_cluster(number: int) -> Iterator[Any]:
    """Start a scheduler in this process, and workers as processes of their own.

    Where there are GPUs each worker sees another one first, as dask-cuda has it.
    """
    import dask
    import torch
    from distributed import Nanny, Scheduler, Security, SpecCluster

    threads = torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ:
        threads = max(1, threads // number)
    security = Security()
    protocol = "tls://" if security.require_encryption else "tcp://"
    of_both = {"host": LOOPBACK, "protocol": protocol, "security": security}
    of_worker = of_both | {"nthreads": 1, "memory_limit": 0, "silence_logs": logging.CRITICAL + 1}
    of_worker |= {"preload": [UNINTERRUPTED]}
    of_scheduler = of_both | {"dashboard": True, "dashboard_address": f"{LOOPBACK}:8787"}
    gpus = _visible_gpus(torch.cuda.device_count())
    workers = {
        i: {"cls": Nanny, "options": of_worker | {"env": _gpu_of_worker(i, gpus)}}
        for i in range(number)
    }
    config = {
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(THREADS, threads),
        # A worker that died is started anew, which takes long on a busy machine.
        "distributed.deploy.lost-worker-timeout": "1 day",
    }
    with dask.config.set(config):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a dashboard's port that is taken
            cluster = SpecCluster(
                workers=workers,
                scheduler={"cls": Scheduler, "options": of_scheduler},
                security=security,
                silence_logs=logging.CRITICAL + 1,
            )
        with cluster:
            yield cluster


def _visible_gpus(count: int) -> list[str]:
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return chosen.split(",")[:count] if chosen and count else [str(i) for i in range(count)]


def _gpu_of_worker(number: int, gpus: list[str]) -> dict[str, str]:
    """Let a worker's first GPU be its own; the others follow, in a circle."""
    if not gpus:
        return {}
    first = number % len(gpus)
    return {"CUDA_VISIBLE_DEVICES": ",".join(gpus[first:] + gpus[:first])}
