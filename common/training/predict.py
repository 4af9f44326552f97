"""A trained or half-trained network on many pixels, in batches and without gradients."""

import gc
import inspect
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import MethodType

import numpy as np
import torch
from torch import Tensor, nn

from common.fast import constant, number_size, set_threads
from common.layers import check_patches
from common.samples.patches import Patches
from common.system.memory import is_out_of_memory

BYTES_PER_BATCH = {"cpu": 64 * 49 * 200, "cuda": 4096 * 49 * 200}  # 16, 1024 patches in float32
LEAST_PER_BATCH = {"cpu": 16, "cuda": 1}  # patches: of fewer, the CPU's layers take as long
PIXELS_PER_CHUNK = 16_384  # whose features are kept at a time


@torch.no_grad()
def logits(model: nn.Module, patches: Patches, pixels: Tensor) -> Tensor:
    """Logits ``(pixels, classes)`` of flat pixel indices, with the network in evaluation mode.

    A network whose class says how is computed position by position (see `has_halves`), any other
    one patch by patch.
    """
    model.eval()
    with constant(model):
        if not has_halves(model):
            of_thread, batch_size = replicas(model), patches_per_batch(model, patches)
            return in_batches(lambda batch: of_thread()(patches.gather(batch)), pixels, batch_size)
        order = pixels.argsort()  # neighbours share most of their windows
        chunks = pixels[order].split(PIXELS_PER_CHUNK)
        ordered = torch.cat([dense_logits(model, patches, chunk) for chunk in chunks])
        return ordered[order.argsort()]


def has_halves(model: nn.Module) -> bool:
    """Whether the class with the network's `forward` has `spectral` and `spatial` beside it.

    The forward pass is then the one method, maybe `spatial_stem`, and the other, as `dense_logits`
    has it.  A subclass with another one, or a hook into the network, may compute anything else.
    """
    kind = next(kind for kind in type(model).__mro__ if "forward" in vars(kind))
    hooks = {*model._forward_hooks.values(), *model._forward_pre_hooks.values()}
    return {"spectral", "spatial"} <= vars(kind).keys() and hooks <= {check_patches}


def dense_logits(model: nn.Module, patches: Patches, pixels: Tensor) -> Tensor:
    """Logits of a network whose spectral half sees one pixel at a time, as SSRN's does.

    Neighbouring patches share pixels.  So the spectral half is computed once for each pixel, the
    3×3 spatial stem, if there is one, once for each of its positions, and only what follows once
    for each patch.
    Zero padding outside the scene is a pixel with a zero spectrum, like in a patch.
    """
    p = patches.half_width
    batch_size = 16 * patches_per_batch(model, patches)  # of pixels, or what has no band axis left
    stem = hasattr(model, "spatial_stem")
    windows = patches.around(patches.positions(pixels), p - 1 if stem else p)
    positions, windows = torch.unique(windows, return_inverse=True)
    if not stem:
        features = _spectral_features(model, patches, positions, batch_size)
        return in_batches(lambda at: model.spatial(features[at].unsqueeze(1)), windows, batch_size)

    windows_3x3 = patches.around(positions, 1)
    pixel_positions, windows_3x3 = torch.unique(windows_3x3, return_inverse=True)
    features = _spectral_features(model, patches, pixel_positions, batch_size)
    stems = in_batches(
        lambda at: model.spatial_stem(features[at].unsqueeze(1)).flatten(1),
        windows_3x3,
        batch_size,
    )
    return in_batches(
        lambda at: model.spatial(stems[at].movedim(3, 1).unsqueeze(4)), windows, batch_size
    )


def _spectral_features(
    model: nn.Module, patches: Patches, positions: Tensor, batch_size: int
) -> Tensor:
    """What the spectral half gives of each position: (positions, features)."""
    return in_batches(
        lambda at: model.spectral(patches.at(at)[:, None, None, None]).flatten(1),
        positions,
        batch_size,
    )


def patches_per_batch(model: nn.Module, patches: Patches) -> int:
    """As many patches as fit into a fixed share of memory, in the type that feature maps have.

    But as many at least as take no longer than fewer of them, however large each is.
    """
    spectra, pixels = patches.spectra, (2 * patches.half_width + 1) ** 2
    size = number_size(model) * pixels * spectra.shape[1]
    kind = spectra.device.type
    return max(LEAST_PER_BATCH[kind], BYTES_PER_BATCH[kind] // size)


def replicas(model: nn.Module) -> Callable[[], nn.Module]:
    """Return a function that returns the calling thread's own copy of a network.

    Weights are shared, and what `constant` keeps, but not what a forward pass may leave in its
    modules on its way.
    """
    own = threading.local()

    def of_thread() -> nn.Module:
        if not hasattr(own, "model"):
            own.model = _replica(model, {})
        return own.model

    return of_thread


def _replica(module: nn.Module, made: dict[nn.Module, nn.Module]) -> nn.Module:
    """Copy a module and those it is made of, but nothing else that it holds."""
    if module not in made:
        made[module] = replica = module.__new__(type(module))
        vars(replica).update(vars(module))
        replica._modules = {n: m and _replica(m, made) for n, m in module._modules.items()}
        forward = vars(module).get("forward")
        if inspect.ismethod(forward) and forward.__self__ is module:
            replica.forward = MethodType(forward.__func__, replica)
    return made[module]


def in_batches(function: Callable[[Tensor], Tensor], rows: Tensor, batch_size: int) -> Tensor:
    """Apply `function` to `rows` a batch at a time and join what it gives.

    On the CPU every thread takes batches of its own: to split each operation of a batch between
    threads has them wait for one another hundreds of times, worst where other programs run.
    """

    def on_batch(batch: Tensor) -> Tensor:
        with torch.no_grad():  # which is for each thread to say
            return _or_by_halves(function, batch)

    batches, threads = rows.split(batch_size), torch.get_num_threads()
    if rows.device.type != "cpu" or threads == 1:
        return torch.cat([on_batch(batch) for batch in batches])
    workers = ThreadPoolExecutor(min(threads, len(batches)), initializer=_work_alone)
    try:
        return torch.cat(list(workers.map(on_batch, batches)))
    finally:
        workers.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _work_alone() -> None:
    """Let this thread's operations use no further threads."""
    set_threads(1)


def _or_by_halves(function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """Apply `function`; where memory is too short for all rows, to each half of them."""
    try:
        return function(rows)
    except (MemoryError, RuntimeError) as error:
        if len(rows) < 2 or not is_out_of_memory(error):
            raise
    gc.collect()  # what the failure itself still refers to
    if rows.is_cuda:
        torch.cuda.empty_cache()
    return torch.cat([_or_by_halves(function, half) for half in rows.tensor_split(2)])


def classify(
    model: nn.Module, patches: Patches, pixels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Predicted label, 1..C, of each flat pixel index, and how sure the network is of it.

    Returns
    -------
    labels : int64 array (pixels,)
    confidence : float32 array (pixels,)
        The largest of the softmax over classes, 0..1.
    """
    if not len(pixels):
        return np.empty(0, np.int64), np.empty(0, np.float32)
    indices = torch.from_numpy(pixels).to(patches.spectra.device)
    confidence, winner = logits(model, patches, indices).float().softmax(dim=1).max(dim=1)
    return winner.cpu().numpy() + 1, confidence.cpu().numpy()


def probabilities(
    model: nn.Module, patches: Patches, classes: int, pixels: np.ndarray
) -> np.ndarray:
    """Softmax over the C `classes` of each flat pixel index: float32 array (pixels, C)."""
    if not len(pixels):
        return np.empty((0, classes), np.float32)
    indices = torch.from_numpy(pixels).to(patches.spectra.device)
    return logits(model, patches, indices).float().softmax(dim=1).cpu().numpy()


def most_probable(of_classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels and confidence, as `classify` gives them, from what `probabilities` gives."""
    return of_classes.argmax(axis=1) + 1, of_classes.max(axis=1)


def predict(model: nn.Module, patches: Patches, pixels: np.ndarray) -> np.ndarray:
    """Predicted label, 1..C, of each flat pixel index: int64 array like `pixels`."""
    return classify(model, patches, pixels)[0]
