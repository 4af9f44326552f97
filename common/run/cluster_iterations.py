"""The iterations of a run as tasks of a cluster: ``--cluster``.

A worker reads the scene once and keeps it for further iterations of the same run.  Into a directory
``run_<n>`` one worker writes at a time, as the lock in it says: one that is cut off from the
scheduler may not know for a while that its iteration is another's now.
"""

import contextlib
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import nn

from common.reporting.report import Iteration
from common.reporting.results_folder import sole_worker
from common.reporting.resume import read_finished, run_identity, write_finished
from common.run.cluster import Cluster, opened
from common.run.cluster_worker import Model, check_still_wanted, kept
from common.run.experiment import tested
from common.scenes.files_of_scene import files_of_scene
from common.scenes.scene import Scene, load_scene
from common.settings import Settings
from common.system.errors import InputError
from common.system.files import remove_unfinished
from common.system.memory import keep_freed_memory
from common.training.classifier import Classifier, Cost, Task


class Job(NamedTuple):
    """What all iterations of a run have in common."""

    model: Model
    settings: Settings


class OnCluster:
    """A run's iterations, carried out by workers; beside `common.run.experiment.InThisProcess`."""

    def __init__(self, cluster: Cluster, job: Job, scene: Scene) -> None:
        self.cluster, self.job = cluster, job
        maps = job.settings.split if isinstance(job.settings.split, tuple) else None
        self.files = files_of_scene(job.settings.dataset, job.settings.data_dir, maps)
        with cluster.sharing(self.files):
            (said,) = cluster.results(describe, [("preparing", (job,))])
        self.environment, self.facts, self.cost = said
        self.identity = run_identity(job.settings, scene, self.environment)

    @contextlib.contextmanager
    def sharing(self, out: Path) -> Iterator[None]:
        """Let workers write to the results directory, if they all see it."""
        with self.cluster.sharing(self.files, out):
            yield

    def iterations(self, tasks: Sequence[Task]) -> Iterator[Iteration]:
        """Yield what each task gave, in order."""
        same = self.identity, self.environment["device_name"]
        calls = [(task.title, (self.job, task, *same)) for task in tasks]
        return self.cluster.results(iteration, calls)


@contextlib.contextmanager
def on_cluster(model: type, settings: Settings, scene: Scene) -> Iterator[OnCluster]:
    """Open the cluster that ``--cluster`` names for a run."""
    with opened(settings.cluster) as cluster:
        cluster.again = "start it again, and go on with --resume"
        yield OnCluster(cluster, Job(Model.of(model), settings), scene)


# What follows runs on workers.


def describe(job: Job) -> tuple[dict, dict, Cost]:
    """Say what a worker computes with, further facts of the report, and what the network costs."""
    _, classifier = _prepared(job)
    return classifier.environment, classifier.facts, classifier.cost


def iteration(job: Job, task: Task, identity: dict, processor: str) -> Iteration:
    """Train, test and map, unless a worker that died had done so already."""
    scene, classifier = _prepared(job)
    own = run_identity(job.settings, scene, classifier.environment)
    for name in identity.keys() | own.keys():
        if identity.get(name) != own.get(name):
            raise InputError(
                f"the worker on {socket.gethostname()} has {name} {own.get(name)}, the others "
                f"{identity.get(name)}"
            )
    if (own_processor := classifier.environment["device_name"]) != processor:
        print(f"note: on {own_processor}, not {processor}: its bits may differ", file=sys.stderr)
    directory = task.directory
    with sole_worker(directory):
        remove_unfinished(directory)
        if (finished := read_finished(directory, task.split)) is not None:
            return finished
        (trained,) = classifier.fit([task])
        finished = tested(scene, trained, task, job.settings, classifier.environment)
        check_still_wanted()
        write_finished(directory, finished)
        return finished


@kept
def _prepared(job: Job) -> tuple[Scene, Classifier]:
    """Read the scene and make the classifier, for all iterations of a run."""
    keep_freed_memory()
    settings, model = job.settings, job.model.load()
    maps = settings.split if isinstance(settings.split, tuple) else None
    scene = load_scene(settings.dataset, settings.data_dir, split_maps=maps)
    if not issubclass(model, nn.Module):
        return scene, model(settings, scene)
    from common.training.network_classifier import NetworkClassifier

    return scene, NetworkClassifier(model, settings, scene)
