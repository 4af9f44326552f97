"""Label maps and scenes as PNG pictures."""

import io

import numpy as np
from PIL import Image, ImageColor

from common.scenes.labels import class_numbers
from common.scenes.nodata import is_nodata
from common.scenes.scene import Scene

STRETCH_PERCENTILES = (2, 98)
LARGEST_SIDE = 4000  # pixels of a picture
VALUES_PER_BLOCK = 2**22  # of the cube, read at a time
LARGE_SIDE = 1200  # pixels of an enlarged map, about


def palette(colours: tuple[str, ...]) -> np.ndarray:
    """Colours of the labels 0, black, and 1..C: uint8 (C + 1, 3)."""
    return np.array([(0, 0, 0), *map(ImageColor.getrgb, colours)], np.uint8)


def colour_labels(labels: np.ndarray, colours: tuple[str, ...]) -> np.ndarray:
    """Paint a label map (rows, cols), 0 black: uint8 RGB (rows, cols, 3)."""
    return palette(colours)[labels]


def label_png(labels: np.ndarray, colours: tuple[str, ...], values: np.ndarray) -> bytes:
    """Encode a label map (rows, cols) as PNG, one picture pixel per pixel.

    `values` are what the map holds for the labels 0..C.  Of a map longer than `LARGEST_SIDE` only
    every n-th row and column is shown.
    """
    step = thinning(labels.shape)
    shown = labels[::step, ::step]  # of a map on disk no more is read
    shown = np.ascontiguousarray(class_numbers(shown, values))
    if shown.dtype != np.uint8:
        return png(colour_labels(shown, colours))
    image = Image.fromarray(shown)
    image.putpalette(palette(colours).tobytes())
    return _encoded(image)


def thinning(shape: tuple[int, int]) -> int:
    """Every how many-th row and column to show, so that no side exceeds `LARGEST_SIDE`."""
    return -(-max(shape) // LARGEST_SIDE)


def enlarged(labels: np.ndarray) -> np.ndarray:
    """Repeat pixels until the longer side has about `LARGE_SIDE`; larger maps stay as they are."""
    factor = max(1, round(LARGE_SIDE / max(labels.shape)))
    return labels if factor == 1 else labels.repeat(factor, axis=0).repeat(factor, axis=1)


def false_colour(scene: Scene) -> np.ndarray:
    """Show three bands of the scene as uint8 RGB (rows, cols, 3), each stretched on its own.

    Pixels without data are black; of a scene longer than `LARGEST_SIDE` only every n-th row and
    column is shown.
    """
    rows, cols = scene.labels.shape
    step, bands = thinning(scene.labels.shape), list(scene.rgb_bands)
    height = 1 if step > 1 else max(1, VALUES_PER_BLOCK // (cols * scene.cube.shape[2]))
    blocks = [
        scene.read_rows(row, min(row + height, rows))[:, ::step][..., bands].astype(np.float64)
        for row in range(0, rows, step * height)
    ]
    shown = np.concatenate(blocks)
    empty = ~np.isfinite(shown).all(axis=2)
    empty |= is_nodata(shown, scene.nodata).all(axis=2)
    if empty.all():
        return np.zeros(shown.shape, np.uint8)
    low, high = np.percentile(shown[~empty], STRETCH_PERCENTILES, axis=0)
    spread = np.maximum(high - low, np.finfo(np.float64).tiny)
    stretched = (shown - low).clip(0, spread) / spread
    stretched[empty] = 0
    return (255 * stretched).round().astype(np.uint8)


def png(rgb: np.ndarray) -> bytes:
    """Encode a uint8 RGB picture as PNG."""
    return _encoded(Image.fromarray(rgb))


def _encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="png", optimize=image.width * image.height < 10**6)
    return buffer.getvalue()
