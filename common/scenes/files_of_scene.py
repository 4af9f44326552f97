"""Which files a scene is read from."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from common.scenes.array_file import HDF5
from common.scenes.envi_file import data_file, find_header
from common.scenes.read_labels import split_map_source
from common.scenes.satellite_metadata import metadata_file
from common.scenes.scene import data_directory
from common.scenes.scene_file import SCENES, describe
from common.scenes.vector_labels import is_vector_file
from common.system.errors import InputError

OF_SHAPEFILE = (".dbf", ".shx", ".prj", ".cpg")


def files_of_scene(
    key: str, data_dir: str | None = None, split_maps: tuple[str, str] | None = None
) -> list[Path]:
    """Return the files that `common.scenes.scene.load_scene` reads, in its order, each once.

    Cube and ground truth with what lies beside them and belongs to them, the scene file itself, and
    the maps of a fixed split.  Where Indian Pines comes from the library tensorly, its files there.
    """
    description = describe(key, data_directory(data_dir))
    named = [description.cube.path]
    if description.ground_truth is not None:
        named.append(description.ground_truth.path)
    if key == "IN" and not all(path.is_file() for path in named):
        named = list(_of_tensorly())
    named += [split_map_source(name).path for name in split_maps or ()]
    files = [part for path in named for part in _with_parts(path)]
    return list(dict.fromkeys(([] if key in SCENES else [Path(key)]) + files))


def _of_tensorly() -> Iterator[Path]:
    found = importlib.util.find_spec("tensorly")
    if found is not None and found.origin is not None:
        folder = Path(found.origin).parent / "datasets" / "data"
        yield from sorted(folder.glob("Indian_pines*.npy"))


def _with_parts(path: Path) -> Iterator[Path]:
    """Yield a file, and those beside it without which it cannot be read as it is."""
    yield path
    suffix = path.suffix.lower()
    if is_vector_file(path):
        beside = [path.with_suffix(ending) for ending in OF_SHAPEFILE if suffix == ".shp"]
    elif suffix in (".tif", ".tiff"):
        beside = [metadata_file(path)]
    elif suffix in (".mat", ".npy", *HDF5):
        beside = []
    else:
        beside = [header := find_header(path)]
        if header == path:
            try:
                beside = [data_file(path, header)]
            except InputError:  # there is none
                beside = []
    yield from (part for part in beside if part is not None and part.is_file())
