"""The blocks of a map as tasks of a cluster: ``--weights`` with ``--cluster``.

Workers read the scene's rows and classify them; what they find comes back to the process that asked
for it, which alone writes the map.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import nn

from common.run.cluster import Cluster, opened
from common.run.cluster_worker import Model, kept
from common.run.map_scene import (
    Block,
    Found,
    Use,
    classify_block,
    environment_of,
    model_of,
    read_use,
)
from common.scenes.files_of_scene import files_of_scene
from common.settings import Settings
from common.system.memory import keep_freed_memory

AHEAD = 4  # blocks for each worker that are asked for, and kept, at a time


class Job(NamedTuple):
    """What all blocks of a map have in common."""

    model: Model
    settings: Settings


class OnCluster:
    """A map's blocks, classified by workers; beside `common.run.map_scene.InThisProcess`."""

    def __init__(self, cluster: Cluster, job: Job) -> None:
        self.cluster, self.job = cluster, job
        (self.environment,) = cluster.results(describe, [("preparing", (job,))])

    def classify(self, blocks: list[Block]) -> Iterator[Found]:
        """Yield what each block gave, in this order."""
        calls = ((f"rows {rows[0]} to {rows[1] - 1}", (self.job, rows)) for rows in blocks)
        ahead = AHEAD * max(1, self.cluster.workers())
        return self.cluster.results(block, calls, ahead)


@contextlib.contextmanager
def on_cluster(network: type[nn.Module], settings: Settings) -> Iterator[OnCluster]:
    """Open the cluster that ``--cluster`` names for a map."""
    files = [*files_of_scene(settings.dataset, settings.data_dir), Path(settings.weights)]
    with opened(settings.cluster) as cluster, cluster.sharing(files):
        cluster.again = "start it again, and map with --overwrite"
        yield OnCluster(cluster, Job(Model.of(network), settings))


# What follows runs on workers.


def describe(job: Job) -> dict:
    """Say what a worker computes with."""
    use, _, _ = _prepared(job)
    return environment_of(use)


def block(job: Job, rows: Block) -> Found:
    """Classify a block of rows."""
    use, model, tested = _prepared(job)
    return classify_block(model, use, tested, rows)


@kept
def _prepared(job: Job) -> tuple[Use, nn.Module, np.ndarray]:
    """Read weights and scene and build the network, for all blocks of a map."""
    keep_freed_memory()
    network = job.model.load()
    use = read_use(network, job.settings)
    return use, model_of(network, use), use.is_tested()
