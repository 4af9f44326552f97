"""What several test files use."""

import gc
import os
import signal
from pathlib import Path

from common.system.process import WHERE_OTHERS_WORK

os.environ.update(WHERE_OTHERS_WORK)  # other workers need the cores

import numpy as np
import pytest
import scipy.io
import torch
from numba.core.registry import cpu_target

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton

import common.run.experiment
import common.run.map_scene
from common.scenes.scene import data_directory
from common.system.files import REPOSITORY

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background jobs
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests try Ctrl-C

GOLDEN = Path(__file__).parent / "golden"
FOLDERS = (data_directory(), REPOSITORY.parent / "shared" / "data")


def pytest_addoption(parser):
    parser.addoption(
        "--full",
        action="store_true",
        help="try the faults of tests/reliability as often as docs/reliability.md says",
    )


def pytest_collection_modifyitems(items):
    """Begin with the fast layers: one worker compiles theirs, the other what trainings need."""
    items.sort(key=lambda item: "/fast/" not in item.nodeid)


def pytest_collection_finish():
    """Leave the packages' objects out of every search for garbage, which takes half a second."""
    cpu_target.target_context.refresh()  # Numba's come when it first compiles
    gc.freeze()


def original(name: str) -> Path:
    """Path of an original scene file; the test is skipped where it has not been fetched."""
    for folder in FOLDERS:
        if (folder / name).is_file():
            return folder / name
    pytest.skip(f"{name} is not here; bash setup_script.sh fetches the scenes")


def toy_labels() -> np.ndarray:
    """The toy ground truth of golden/splits.json: 40×36 pixels, labels 0..5."""
    i, j = np.indices((40, 36))
    return ((i // 5) * 7 + (j // 4) * 3) % 6


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory) -> Path:
    """A data directory with a small, easily learnt scene in the files of Pavia University."""
    directory = tmp_path_factory.mktemp("toy")
    labels = toy_labels()
    generator = np.random.default_rng(0)
    spectra = generator.normal(size=(6, 60))
    cube = spectra[labels] + 0.3 * generator.normal(size=(*labels.shape, 60))
    cube = (1000 + 100 * cube).astype(np.uint16)
    scipy.io.savemat(directory / "PaviaU.mat", {"paviaU": cube})
    scipy.io.savemat(directory / "PaviaU_gt.mat", {"paviaU_gt": labels.astype(np.uint8)})
    return directory


@pytest.fixture(scope="session")
def toy_in(toy_data, tmp_path_factory) -> Path:
    """A data directory with the same small scene in the files of Indian Pines."""
    directory = tmp_path_factory.mktemp("toy_in")
    cube = scipy.io.loadmat(toy_data / "PaviaU.mat")["paviaU"]
    scipy.io.savemat(directory / "Indian_pines_corrected.mat", {"indian_pines_corrected": cube})
    labels = toy_labels().astype(np.uint8)
    scipy.io.savemat(directory / "Indian_pines_gt.mat", {"indian_pines_gt": labels})
    return directory


@pytest.fixture(scope="session", autouse=True)
def without_pages():
    """Runs in this process leave no report.html, which takes seconds; test_page.py writes its own.

    Runs that tests start as programs leave theirs.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common.run.experiment, "add_page", lambda out: None)
        patch.setattr(common.run.map_scene, "add_page", lambda out: None)
        yield
