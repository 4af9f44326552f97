"""Patches: the P×P×bands neighbourhood of a pixel, gathered from one padded cube."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from common.samples.preprocess import PIXELS_PER_BLOCK
from common.scenes.by_rows import VALUES_PER_READ, AnyCube, rows_of


@dataclass(frozen=True)
class Patches:
    """Every pixel's patch, none of them stored: a padded cube and where to look in it.

    Of a scene that does not fit into memory only what the patches of some pixels see is held.

    Attributes
    ----------
    spectra : float tensor ((rows + 2p) * (cols + 2p), bands)
        The cube with `p` zero pixels on each side, flattened over its pixels; or some of these.
    cols : int
        Columns of the scene, without padding.
    half_width : int
        p; a patch is P×P pixels with P = 2p + 1.
    held : int64 tensor or None
        Which pixels of the padded cube `spectra` holds, ascending; None if all.
    """

    spectra: Tensor
    cols: int
    half_width: int
    held: Tensor | None = None

    @classmethod
    def of_cube(
        cls,
        cube: np.ndarray,
        half_width: int,
        device: torch.device,
        preprocess: Callable[[np.ndarray], np.ndarray] = np.asarray,
    ) -> "Patches":
        """Preprocess a cube (rows, cols, bands), pad it and put it on `device`.

        What `preprocess` makes of spectra may have another number of bands.

        The preprocessed cube is written where it stays, a few rows at a time.
        """
        (rows, cols), p = cube.shape[:2], half_width
        bands = preprocess(cube[:1, :1]).shape[2]
        padded = torch.zeros(rows + 2 * p, cols + 2 * p, bands)
        inside = padded[p : p + rows, p : p + cols].numpy()
        step = max(1, PIXELS_PER_BLOCK // cols)
        for start in range(0, rows, step):
            inside[start : start + step] = preprocess(cube[start : start + step])
        return cls(spectra=padded.view(-1, bands).to(device), cols=cols, half_width=p)

    @classmethod
    def of_pixels(
        cls,
        cube: AnyCube,
        pixels: np.ndarray,
        half_width: int,
        device: torch.device,
        preprocess: Callable[[np.ndarray, int], np.ndarray],
    ) -> "Patches":
        """Preprocess and hold what the patches of some pixels, flat indices, see of a cube.

        Only rows that have some of it are read.  `preprocess` is also given the first row's number.
        """
        (rows, cols, _), p = cube.shape, half_width
        where = cls(torch.empty(0), cols, p)
        chunks = torch.from_numpy(pixels).split(PIXELS_PER_BLOCK)
        seen = [where.around(where.positions(chunk), p).unique() for chunk in chunks]
        held = torch.cat(seen).unique()
        row, col = (axis.numpy() - p for axis in (held // where._width, held % where._width))
        inside = (row >= 0) & (row < rows) & (col >= 0) & (col < cols)
        spectra, step = None, max(1, VALUES_PER_READ // (cols * cube.shape[2]))
        for start in range(0, rows, step):
            here = np.flatnonzero(inside & (row >= start) & (row < start + step))
            if len(here):
                first, last = row[here[0]], row[here[-1]]
                block = preprocess(rows_of(cube, first, last + 1), first)
                if spectra is None:
                    spectra = torch.zeros(len(held), block.shape[2])
                spectra.numpy()[here] = block[row[here] - first, col[here]]
        return cls(spectra.to(device), cols, p, held.to(device))

    def at(self, positions: Tensor) -> Tensor:
        """Spectra ``(…, bands)`` of positions in the padded cube, which must be held."""
        if self.held is not None:
            positions = torch.searchsorted(self.held, positions)
        return self.spectra[positions]

    def gather(
        self, pixels: Tensor, symmetries: Tensor | None = None, half_width: int | None = None
    ) -> Tensor:
        """Return the patches ``(batch, 1, P, P, bands)`` centred on flat pixel indices.

        `symmetries`, one of 0..7 per patch, turn and mirror them: the eight symmetries of a square.
        A `half_width` of less than p cuts out smaller patches.
        """
        windows = self.around(self.positions(pixels), half_width or self.half_width)
        if symmetries is not None:
            turned = _symmetries(windows.shape[1], windows.device)[symmetries]
            windows = windows.flatten(1).gather(1, turned).view_as(windows)
        return self.at(windows).unsqueeze(1)

    def positions(self, pixels: Tensor) -> Tensor:
        """Where flat pixel indices of the scene lie in the padded cube."""
        rows_above, first = pixels // self.cols, self.half_width * (self._width + 1)
        return pixels.add(rows_above, alpha=2 * self.half_width) + first

    def around(self, positions: Tensor, half_width: int) -> Tensor:
        """Positions of the windows about `positions`: (n,) becomes (n, 2h + 1, 2h + 1)."""
        return positions[:, None, None] + _offsets(half_width, self._width, positions.device)

    @property
    def _width(self) -> int:
        return self.cols + 2 * self.half_width


def occluded(patches: Tensor, share: float) -> Tensor:
    """Hide a share of the pixels of patches ``(batch, 1, P, P, bands)`` at random: as zeros.

    The central pixel, whose class it is, stays.  What is seen is scaled up, as in dropout, so that
    averages over a patch are about those of patches that are seen whole.
    """
    seen = torch.rand(patches.shape[:4], device=patches.device) >= share
    centre = patches.shape[2] // 2
    seen[:, :, centre, centre] = True
    return patches * (seen / (1 - share))[..., None]


@functools.cache
def _offsets(half_width: int, width: int, device: torch.device) -> Tensor:
    """Return where a square's pixels lie, seen from its centre, in rows of `width` pixels."""
    steps = torch.arange(-half_width, half_width + 1, device=device)
    return steps[:, None] * width + steps


@functools.cache
def _symmetries(size: int, device: torch.device) -> Tensor:
    """Return the eight ways to turn and mirror a square of flat indices: ``(8, size * size)``."""
    square = torch.arange(size * size, device=device).view(size, size)
    turned = [square.rot90(quarter) for quarter in range(4)]
    return torch.stack([t.flatten() for t in (*turned, *(t.T for t in turned))])
