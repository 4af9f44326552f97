"""Label maps and scenes as PNG pictures, one picture pixel per scene pixel."""

import io

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.image import imsave

from common.scene import Scene

STRETCH_PERCENTILES = (2, 98)


def colour_labels(labels: np.ndarray, colours: tuple[str, ...]) -> np.ndarray:
    """Paint a label map (rows, cols), 0 black: uint8 RGB (rows, cols, 3)."""
    palette = np.array([(0, 0, 0), *(to_rgb(colour) for colour in colours)])
    return (255 * palette).round().astype(np.uint8)[labels]


def false_colour(scene: Scene) -> np.ndarray:
    """Show three bands of the scene as uint8 RGB (rows, cols, 3), each stretched on its own."""
    bands = scene.cube[:, :, list(scene.rgb_bands)].astype(np.float64)
    low, high = np.percentile(bands, STRETCH_PERCENTILES, axis=(0, 1))
    stretched = (bands - low) / np.maximum(high - low, np.finfo(np.float64).tiny)
    return (255 * stretched.clip(0, 1)).round().astype(np.uint8)


def png(rgb: np.ndarray) -> bytes:
    """Encode a uint8 RGB picture as PNG."""
    buffer = io.BytesIO()
    imsave(buffer, rgb, format="png")
    return buffer.getvalue()
