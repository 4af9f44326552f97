"""Computing SSRN position by position gives what computing it patch by patch gives."""

import threading
import time

import numba
import numpy as np
import pytest
import torch

import common.training.predict
from common.fast import use_fast_form
from common.samples.patches import Patches
from common.training.predict import logits, patches_per_batch, predict
from SSRN.SSRN import SSRN

ROWS, COLS, BANDS = 9, 11, 20
CPU = torch.device("cpu")


def trained_like(model: SSRN) -> SSRN:
    """Batch norms that shift and scale, so that a zero spectrum has an image unlike zero."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            for values in (module.weight.data, module.running_var, module.running_mean):
                values.uniform_(0.2, 1.5, generator=generator)
            module.bias.data.normal_(generator=generator)
    return model


@pytest.mark.parametrize("half_width", [2, 3, 5])
@pytest.mark.parametrize("chunk", [7, 16_384])
@pytest.mark.parametrize("prepare", [lambda model: model, use_fast_form])
def test_dense_logits_equal_those_of_every_patch(monkeypatch, half_width, chunk, prepare):
    monkeypatch.setattr(common.training.predict, "PIXELS_PER_CHUNK", chunk)
    torch.manual_seed(0)
    model = prepare(trained_like(SSRN(BANDS, classes=4, kernels=6)).double().eval())
    cube = np.random.default_rng(0).normal(size=(ROWS, COLS, BANDS))
    patches = Patches.of_cube(cube.astype(np.float32), half_width, torch.device("cpu"))
    patches = Patches(patches.spectra.double(), COLS, half_width)
    pixels = torch.randperm(ROWS * COLS)  # the scene's edges and corners among them
    with torch.no_grad():
        expected = model(patches.gather(pixels))
    torch.testing.assert_close(logits(model, patches, pixels), expected, rtol=1e-10, atol=1e-10)


def test_dense_logits_in_bfloat16_have_the_numbers_of_every_patch():
    torch.manual_seed(0)
    model = use_fast_form(trained_like(SSRN(BANDS, classes=4, kernels=6)), dtype=torch.bfloat16)
    cube = np.random.default_rng(0).normal(size=(ROWS, COLS, BANDS)).astype(np.float32)
    patches, pixels = Patches.of_cube(cube, 2, torch.device("cpu")), torch.randperm(ROWS * COLS)
    with torch.no_grad():
        expected = model.eval()(patches.gather(pixels))
    torch.testing.assert_close(logits(model, patches, pixels), expected, rtol=1e-5, atol=1e-5)


def test_predict_gives_labels_from_one_on():
    model = SSRN(BANDS, classes=4, kernels=6)
    cube = np.random.default_rng(0).normal(size=(ROWS, COLS, BANDS)).astype(np.float32)
    patches = Patches.of_cube(cube, 2, torch.device("cpu"))
    labels = predict(model, patches, np.array([5, 0, 98]))
    assert labels.shape == (3,)
    assert set(labels) <= {1, 2, 3, 4}
    assert predict(model, patches, np.array([], np.int64)).shape == (0,)


@pytest.mark.parametrize(("half_width", "expected"), [(2, 313), (13, 16)])
def test_batches_hold_as_many_patches_as_the_cpu_takes_at_once(half_width, expected):
    patches = Patches.of_cube(np.zeros((ROWS, COLS, BANDS), np.float32), half_width, CPU)
    assert patches_per_batch(SSRN(BANDS, classes=4, kernels=6), patches) == expected


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_threads_take_batches_of_their_own_and_leave_all_as_it_was(two_threads):
    threads_used, inner = set(), set()
    parameter = torch.ones((), requires_grad=True)

    def double(rows):
        threads_used.add(threading.get_ident())
        inner.add((torch.get_num_threads(), numba.get_num_threads()))
        time.sleep(0.01)  # so that one thread cannot take all
        return rows * 2 * parameter

    rows = torch.arange(23)
    with torch.no_grad():
        result = common.training.predict.in_batches(double, rows, batch_size=2)
    assert torch.equal(result, rows * 2)  # in the order of the rows
    assert not result.requires_grad
    assert len(threads_used) == 2
    assert inner == {(1, 1)}
    assert torch.get_num_threads() == 2


def test_an_error_in_a_batch_ends_the_others(two_threads):
    done = []

    def fail(rows):
        done.append(rows)
        time.sleep(0.01)
        raise RuntimeError("in a batch")

    with pytest.raises(RuntimeError, match="in a batch"):
        common.training.predict.in_batches(fail, torch.arange(1000), batch_size=1)
    assert len(done) < 100
    assert torch.get_num_threads() == 2


TOO_MUCH = 2**50  # bytes, more than any machine has


@pytest.mark.parametrize("threads", [1, 2])
def test_a_batch_too_large_for_memory_is_halved(threads, two_threads):
    torch.set_num_threads(threads)
    batches = []

    def at_most_three(rows):
        batches.append(len(rows))
        torch.empty(TOO_MUCH if len(rows) > 3 else 1, dtype=torch.uint8)
        return rows * 2

    rows = torch.arange(37)
    assert torch.equal(
        common.training.predict.in_batches(at_most_three, rows, batch_size=16), rows * 2
    )
    assert sorted(batches) == [2] * 17 + [3] + [4] * 8 + [5] + [8] * 4 + [16] * 2
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("threads", [1, 2])
def test_one_row_too_large_for_memory_is_an_error(threads, two_threads):
    torch.set_num_threads(threads)
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        common.training.predict.in_batches(
            lambda rows: torch.empty(TOO_MUCH, dtype=torch.uint8), torch.arange(5), batch_size=2
        )


def test_other_errors_halve_nothing():
    batches = []

    def fail(rows):
        batches.append(len(rows))
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        common.training.predict._or_by_halves(fail, torch.arange(8))
    assert batches == [8]
