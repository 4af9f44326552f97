"""Too little memory, for real: batches are halved, and what does not fit at all is one line."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import common.training.predict
from common.samples.patches import Patches
from common.system.errors import InputError
from common.system.memory import keep_freed_memory, told_if_memory_is_short
from common.training.network_input import build
from common.training.predict import predict
from tests.forked import FORKED
from tests.reliability.processes import SCRIPTS, resource
from tests.reliability.reader import memory

ROWS, COLS, BANDS, PIXELS = 20, 25, 120, 120
PIECE = 1 << 16  # bytes: less than a feature map of one patch takes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")


def classify_within(model: str, pieces: int | None, answer: Path) -> None:
    """Classify a toy scene in this process, with so many free pieces of memory."""
    keep_freed_memory()
    # 16 patches side by side are the least that takes less memory: batches of more than these.
    common.training.predict.BYTES_PER_BATCH["cpu"] *= 8
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = getattr(sys.modules[f"{model}.{model}"], model)
    cube = np.random.default_rng(0).normal(size=(ROWS, COLS, BANDS)).astype(np.float32)
    patches = Patches.of_cube(cube, 3, torch.device("cpu"))
    arguments = {"bands": BANDS, "classes": 9, "kernels": 24}
    trained = build(network, arguments, "fp32", patches)
    predict(trained, patches, np.arange(1))  # loads all that evaluation needs
    found, before = {"batches": record_batches()}, memory("VmSize")
    taken = [] if pieces is None else take_all_memory_but(pieces)
    try:
        with told_if_memory_is_short():
            found["labels"] = predict(trained, patches, np.arange(PIXELS)).tolist()
    except InputError as error:
        found["told"] = str(error)
    taken.clear()
    resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY,) * 2)
    answer.write_text(
        json.dumps(found | {"pieces": int((memory("VmPeak") - before) * 2**20 / PIECE)}), "utf-8"
    )


def take_all_memory_but(pieces: int) -> list[torch.Tensor]:
    """Let this process grow no more, and return what holds all else that it has."""
    room = torch.empty(pieces * PIECE, dtype=torch.uint8)
    limit = int(memory("VmData") * 2**20)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))
    taken = []
    try:
        while True:
            taken.append(torch.empty(PIECE, dtype=torch.uint8))
    except RuntimeError:
        del room
    return taken


def record_batches() -> list[int]:
    """Return a list that will hold the size of every batch that is tried."""
    batches, by_halves = [], common.training.predict._or_by_halves

    def recording(function, rows):
        batches.append(len(rows))
        return by_halves(function, rows)

    common.training.predict._or_by_halves = recording
    return batches


def classified(model: str, pieces: int | None, folder: Path) -> dict:
    """What `classify_within` found in a process of its own."""
    answer = folder / "answer.json"
    answer.unlink(missing_ok=True)
    process = FORKED.Process(target=classify_within, args=(model, pieces, answer))
    process.start()
    process.join()
    assert process.exitcode == 0
    return json.loads(answer.read_text("utf-8"))


def test_evaluation_with_too_little_memory_for_a_batch(tmp_path, often, tried):
    halved, too_little = 0, 0
    for model in SCRIPTS[-often(1, 2) :]:
        classified(model, None, tmp_path)  # so that the layers' check, once, takes no memory below
        free = classified(model, None, tmp_path)
        # What it took counts the heap's spare 64 MiB too; half of that is surely too little.
        for pieces in np.linspace(1, 0.5 * free["pieces"], often(3, 10)).astype(int):
            found = classified(model, pieces, tmp_path)
            if "labels" in found:
                assert found["labels"] == free["labels"]
                assert len(found["batches"]) > len(free["batches"])
                halved += 1
            else:
                assert "out of memory; use a smaller" in found["told"]
                assert min(found["batches"]) == 1
                too_little += 1
    assert halved and too_little
    fault = "out of memory in evaluation"
    how = "a limit on memory (RLIMIT_DATA): batches are halved until they fit, the same labels; "
    tried(fault, how + "one line where not even one patch does", halved + too_little)


def test_too_little_memory_to_load_a_package_is_told():
    with pytest.raises(InputError, match="out of memory"), told_if_memory_is_short():
        raise ImportError("_ufuncs.so: cannot map zero-fill pages")
    with pytest.raises(ImportError), told_if_memory_is_short():
        raise ImportError("No module named 'rasterio'")
