"""Training layer by layer without labels, before the layers are trained together."""

import dataclasses
import hashlib
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from common.recipe import Recipe
from common.settings import Settings
from common.training.checkpoint import PRETRAINING_FILES, Checkpoint
from common.training.history import Epoch, PretrainingEpoch, write_pretraining
from common.training.optimizers import make_optimizer
from common.training.progress import epoch_progress


def pretrain(
    model: nn.Module, spectra: Tensor, settings: Settings, seed: int, title: str, directory: Path
) -> None:
    """Train each of ``model.autoencoders()``, in order, to reproduce its own input, in place.

    Adam for ``model.pretraining_epochs`` epochs a layer, with the learning rate and batches that
    the flags say.  Leaves ``pretraining.csv``; an interrupted one goes on to the same bits.

    Parameters
    ----------
    spectra : float tensor (pixels, bands)
        The training pixels, the first layer's input.
    seed : int
        With layer and epoch it fixes the batch order.
    title : str
        What it is called on the terminal, for example "iteration 1/3".
    directory : Path
        The iteration's directory.
    """
    pixels = hashlib.sha256(spectra.cpu().numpy().tobytes()).hexdigest()
    identity = [model.pretraining_epochs, settings.lr, settings.batch_size, seed, pixels]
    checkpoint = Checkpoint(directory, json.dumps(identity), PRETRAINING_FILES)
    kept = checkpoint.read() or {"history": [], "autoencoders": {}, "optimizer": None}
    history = [PretrainingEpoch(**epoch) for epoch in kept["history"]]
    autoencoders = nn.ModuleList(model.autoencoders()).to(spectra.device)
    if kept["autoencoders"]:
        autoencoders.load_state_dict(kept["autoencoders"])
    epochs = dataclasses.replace(settings, epoch=model.pretraining_epochs)
    for layer, autoencoder in enumerate(autoencoders, start=1):
        optimizer = make_optimizer("adam", autoencoder, settings.lr, Recipe())
        done = [epoch for epoch in history if epoch.layer == layer]
        if 0 < len(done) < epochs.epoch:
            optimizer.load_state_dict(kept["optimizer"])
        stage = f"{title}, pretraining {layer}/{len(autoencoders)}"
        shown = [Epoch.of_pretraining(e.epoch, settings.lr, e.loss, e.seconds) for e in done]
        with epoch_progress(stage, epochs, Recipe(), shown) as show:
            for number in range(len(done) + 1, epochs.epoch + 1):
                start = time.perf_counter()
                torch.manual_seed(_seed(seed, layer, number))
                loss = _epoch(autoencoder, spectra, settings.batch_size, optimizer)
                seconds = time.perf_counter() - start
                history.append(PretrainingEpoch(layer, number, loss, seconds))
                show(Epoch.of_pretraining(number, settings.lr, loss, seconds))
                if layer == len(autoencoders) and number == epochs.epoch:
                    checkpoint.next_time = -math.inf  # the last one in any case
                state = autoencoders.state_dict(), optimizer.state_dict()
                checkpoint.write(lambda state=state: _content(history, *state))
        with torch.no_grad():
            spectra = autoencoder.encode(spectra)
    write_pretraining(directory, history)


def _epoch(
    autoencoder: nn.Module, spectra: Tensor, batch_size: int, optimizer: torch.optim.Optimizer
) -> float:
    """Update an auto-encoder with all spectra in random order; return the mean loss."""
    total = torch.zeros((), device=spectra.device)
    order = torch.randperm(len(spectra)).to(spectra.device)
    for batch in order.split(batch_size):
        optimizer.zero_grad()
        loss = autoencoder(spectra[batch])
        loss.backward()
        optimizer.step()
        total += len(batch) * loss.detach()
    return total.item() / len(spectra)


def _seed(*numbers: int) -> int:
    """Return a seed made from these numbers alone."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _content(history: list[PretrainingEpoch], autoencoders: dict, optimizer: dict) -> dict:
    epochs = [dataclasses.asdict(epoch) for epoch in history]
    return {"history": epochs, "autoencoders": autoencoders, "optimizer": optimizer}
