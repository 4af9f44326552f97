"""Files that are valid but odd, as real programs write them, and what is right of each.

Functions of `READ` and `TOLD` write files into a folder and return what the scene file says.
"""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import scipy.io
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine

from tests.scenes.test_read_labels import save_labels as save_tif

LABELS = np.zeros((14, 12), np.uint8)
LABELS[1:5, 1:11], LABELS[5:9, 1:11], LABELS[9:13, 1:11] = 1, 2, 3
GENERATOR = np.random.default_rng(0)
SPECTRA = GENERATOR.normal(size=(4, 10))
CUBE = (1500 + 100 * SPECTRA[LABELS] + 9 * GENERATOR.normal(size=(14, 12, 10))).astype(np.float32)
CUBE = CUBE.round()
BORDER = np.ones(LABELS.shape, bool)
BORDER[2:-2, 2:-2] = False
CENTRES = np.linspace(450, 830, 10)
HERE = {"crs": "EPSG:32633", "transform": Affine(30, 0, 400_000, 0, -30, 5_800_000)}
INFO = "map info = {UTM, 1, 1, 400000, 5800000, 30, 30, 33, North, WGS-84}"
COLOURS = 'colours: ["#ff0000", "#008000", "#0000ff"]\n'
PICTURE = np.array([(0, 0, 0), (255, 0, 0), (0, 128, 0), (0, 0, 255)], np.uint8)[LABELS]
LAYERS = np.eye(4, dtype=np.uint8)[LABELS]
TRAIN = np.where(np.indices(LABELS.shape)[1] < 6, LABELS, 0)
Write = Callable[[Path], str]


def npy(cube=CUBE, labels=LABELS, more: str = "") -> Write:
    def write(folder: Path) -> str:
        np.save(folder / "cube.npy", cube)
        np.save(folder / "labels.npy", labels)
        return f"cube: cube.npy\nground_truth: labels.npy\n{more}"

    return write


def filled(value: float, where, dtype=np.float32, more: str = "") -> Write:
    cube = CUBE.astype(dtype)
    cube[where] = value
    return npy(cube, more=more)


def save_envi(stem: Path, array: np.ndarray, lines: tuple[str, ...], encoding="utf-8") -> None:
    bands = array if array.ndim == 3 else array[:, :, None]
    bands.transpose(2, 0, 1).tofile(f"{stem}.img")
    sizes = dict(zip(("lines", "samples", "bands"), bands.shape, strict=True))
    sizes["data type"] = {"uint8": 1, "float32": 4}[bands.dtype.name]
    head = ["ENVI", *(f"{key} = {value}" for key, value in sizes.items()), "interleave = bsq"]
    Path(f"{stem}.hdr").write_bytes("\n".join([*head, *lines]).encode(encoding))


def envi(*lines: str, cube=CUBE, encoding: str = "utf-8") -> Write:
    def write(folder: Path) -> str:
        save_envi(folder / "cube", cube, lines, encoding)
        np.save(folder / "labels.npy", LABELS)
        return "cube: cube.hdr\nground_truth: labels.npy\n"

    return write


def in_unit(unit: str, factor: float) -> Write:
    centres = ", ".join(f"{centre * factor:.6g}" for centre in CENTRES)
    return envi(f"wavelength = {{{centres}}}", f"wavelength units = {unit}")


def tif(cube=CUBE, labels=LABELS, mask=None, **options) -> Write:
    def write(folder: Path) -> str:
        save_tif(folder / "cube.tif", cube, mask, **options)
        np.save(folder / "labels.npy", labels)
        return "cube: cube.tif\nground_truth: labels.npy\n"

    return write


def label_tif(labels, more: str = "", mask=None, **options) -> Write:
    def write(folder: Path) -> str:
        np.save(folder / "cube.npy", CUBE)
        save_tif(folder / "labels.tif", np.asarray(labels), mask, **options)
        return f"cube: cube.npy\nground_truth: labels.tif\n{more}"

    return write


def at(labels=LABELS, a=30.0, x=400_000.0, e=-30.0, y=5_800_000.0, crs="EPSG:32633") -> Write:
    """Labels that state a place, on a cube that lies HERE."""

    def write(folder: Path) -> str:
        save_tif(folder / "cube.tif", CUBE, **HERE)
        save_tif(folder / "labels.tif", labels, crs=crs, transform=Affine(a, 0, x, 0, e, y))
        return "cube: cube.tif\nground_truth: labels.tif\n"

    return write


def envi_at(info: str, labels=LABELS) -> Write:
    def write(folder: Path) -> str:
        save_envi(folder / "cube", CUBE, (INFO,))
        save_envi(folder / "labels", labels, (f"map info = {{UTM, {info}, 33, North, WGS-84}}",))
        return "cube: cube.hdr\nground_truth: labels.hdr\n"

    return write


def mat(content: dict, cube: str, labels: str, more: str = "") -> Write:
    def write(folder: Path) -> str:
        scipy.io.savemat(folder / "x.mat", content)
        named = "cube: {{path: x.mat, variable: {}}}\nground_truth: {{path: x.mat, variable: {}}}\n"
        return named.format(cube, labels) + more

    return write


def hdf5(name: str, content: dict, attributes: dict, cube: str, more: str = "", **options) -> Write:
    def write(folder: Path) -> str:
        with h5py.File(folder / name, "w", **options) as file:
            for key, array in content.items():
                file[key] = array
                file[key].attrs.update(attributes)
        np.save(folder / "labels.npy", LABELS)
        labels = "labels.npy"
        if "gt" in content:
            labels = f"{{path: {name}, variable: gt}}"
        return f"cube: {{path: {name}, variable: {cube}}}\nground_truth: {labels}\n{more}"

    return write


def split(train, test, more: str = "") -> Write:
    """A scene without ground truth, and two maps of a split."""

    def write(folder: Path) -> str:
        np.save(folder / "cube.npy", CUBE)
        scipy.io.savemat(folder / "train.mat", {"TR": train, "other": test})
        scipy.io.savemat(folder / "test.mat", {"TE": test, "other": train})
        return f"cube: cube.npy\n{more}"

    return write


NESTED = {"a": {"b": {"cube": CUBE, "text": "abc"}, "gt": LABELS}}
LIST = {"wavelength": np.linspace(0.45, 0.83, 10)}
CENTRE_LIST = f"wavelength = {{{', '.join(f'{centre:g}' for centre in CENTRES)}}}"
CORNERS = ((0, 0), (0, 12), (14, 0), (14, 12))
POINTS = [GroundControlPoint(r, c, 400_000 + 30 * c, 5_800_000 - 30 * r) for r, c in CORNERS]
INSIDE = np.where(BORDER, 0, LABELS)
ALPHA = np.where(BORDER, 0, 255)

# What is read: how it is written, the labels that are right, and what is told of it.
READ: dict[str, tuple[Write, np.ndarray, str]] = {
    "bands of NaN": (filled(np.nan, np.s_[:, :, 2:4]), LABELS, "bands 2-3"),
    "bands of -32768": (filled(-32768, np.s_[:, :, 7:9], np.int16), LABELS, "bands 7-8"),
    "bands of 1e20": (filled(1e20, np.s_[:, :, [0, 9]]), LABELS, "bands 0, 9"),
    "bands and a border": (
        npy(np.where(BORDER[..., None] | (np.arange(10) == 4), -1, CUBE), more="nodata: -1"),
        INSIDE,
        "band 4",
    ),
    "bbl": (envi(f"bbl = {{{', '.join('1110111111')}}}"), LABELS, "band 3, which it marks as bad"),
    "border of NaN, stated": (filled(np.nan, BORDER, more="nodata: nan"), INSIDE, "without data"),
    "border of 65535": (
        filled(65535, BORDER, np.uint16),
        LABELS,
        "in 88 pixels are 65535, first at row 0",
    ),
    "border of 0": (filled(0, BORDER), LABELS, "in 88 pixels are 0.0, first at row 0"),
    "Nanometer": (in_unit("Nanometer", 1), LABELS, ""),
    "Micrometer": (in_unit("Micrometer", 1e-3), LABELS, ""),
    "microns": (in_unit("microns", 1e-3), LABELS, ""),
    "Greek mu": (in_unit("μm", 1e-3), LABELS, ""),
    "micro sign": (in_unit("µm", 1e-3), LABELS, ""),
    "no unit": (in_unit("Unknown", 1e-3), LABELS, ""),
    "Angstrom": (in_unit("Angstroms", 10), LABELS, ""),
    "wavenumbers": (in_unit("cm-1", 1), LABELS, "their unit 'cm-1' is not known"),
    "a short list": (envi("wavelength = {450, 460}"), LABELS, "there are 2 of them for 10 bands"),
    "no byte order": (envi(), LABELS, ""),
    "a mark of UTF-8": (envi(CENTRE_LIST, encoding="utf-8-sig"), LABELS, ""),
    "UTF-16": (envi("description = {水田}", CENTRE_LIST, encoding="utf-16"), LABELS, ""),
    "Latin 1": (envi("description = {Größe}", CENTRE_LIST, encoding="latin-1"), LABELS, ""),
    "GBK": (envi("band names = {水田}", CENTRE_LIST, encoding="gbk"), LABELS, ""),
    "empty fields": (envi("data ignore value =", "bbl = {}", "map info = {}"), LABELS, ""),
    "labels at the same place": (at(), LABELS, ""),
    "labels half a pixel off": (at(x=400_015, y=5_799_985), LABELS, ""),
    "labels with no reference system": (at(crs=None), LABELS, ""),
    "ENVI labels at the same place": (envi_at("1.5, 1.5, 400015, 5799985, 30, 30"), LABELS, ""),
    "labels with nodata NaN": (
        label_tif(np.where(LABELS, LABELS, np.nan).astype("f4"), nodata=np.nan),
        LABELS,
        "",
    ),
    "labels with nodata 255": (label_tif(np.where(LABELS, LABELS, 255), nodata=255), LABELS, ""),
    "labels with nodata -9999": (
        label_tif(np.where(LABELS, LABELS.astype(int), -9999).astype("i2"), nodata=-9999),
        LABELS,
        "",
    ),
    "labels with a mask": (label_tif(LABELS, mask=~BORDER), INSIDE, ""),
    "labels of NaN, ignored": (
        npy(labels=np.where(LABELS, LABELS, np.nan), more="ignored_label: nan"),
        LABELS,
        "",
    ),
    "labels with one layer": (npy(labels=LABELS[..., None]), LABELS, ""),
    "labels by a palette": (label_tif(LABELS, photometric="palette"), LABELS, ""),
    "labels with gaps": (npy(labels=np.array([0, 1, 10, 14])[LABELS]), LABELS, ""),
    "a colour picture": (npy(labels=PICTURE, more=COLOURS), LABELS, ""),
    "a colour picture as GeoTIFF": (label_tif(PICTURE, COLOURS, photometric="RGB"), LABELS, ""),
    "a colour picture as floats": (npy(labels=PICTURE / 255, more=COLOURS), LABELS, ""),
    "one-hot": (npy(labels=LAYERS), LABELS, ""),
    "one-hot, as floats": (npy(labels=LAYERS[..., 1:].astype(float)), LABELS, ""),
    "an alpha band": (tif(np.dstack([CUBE, ALPHA]), alpha="yes"), INSIDE, "an alpha band"),
    "an alpha band that is not marked": (
        tif(np.dstack([CUBE * ~BORDER[..., None], ALPHA]).astype(np.uint16)),
        INSIDE,
        "an alpha band",
    ),
    "a mask": (tif(mask=~BORDER), INSIDE, "without data"),
    "control points": (tif(gcps=POINTS, crs="EPSG:32633"), LABELS, ""),
    "structs in structs": (mat(NESTED, "a.b.cube", "a.gt"), LABELS, ""),
    "h5py's .mat file": (hdf5("x.mat", {"cube": CUBE, "gt": LABELS}, {}, "cube"), LABELS, ""),
    "MATLAB's .mat file": (
        hdf5("x.mat", {"cube": CUBE.T, "gt": LABELS.T}, {}, "cube", userblock_size=512),
        LABELS,
        "",
    ),
    "bands first in NetCDF": (
        hdf5(
            "x.nc",
            {"cube": np.moveaxis(CUBE, 2, 0)} | LIST,
            {},
            "cube",
            "axes: [bands, rows, cols]",
        ),
        LABELS,
        "",
    ),
    "scale and offset": (
        hdf5("x.nc", {"cube": CUBE}, {"scale_factor": 1e-4, "add_offset": 0.1}, "cube"),
        LABELS,
        "",
    ),
    "a valid range": (
        hdf5(
            "x.nc",
            {"cube": np.where(BORDER[..., None], 9e9, CUBE)},
            {"valid_range": [0, 1e4]},
            "cube",
        ),
        INSIDE,
        "beyond its valid range, 0 to 10000",
    ),
    "two maps of a split": (split(TRAIN, LABELS - TRAIN), LABELS, ""),
    "two maps with 255": (
        split(np.where(TRAIN, TRAIN, 255), LABELS - TRAIN, "ignored_label: [0, 255]"),
        LABELS,
        "",
    ),
}
# What is refused: how it is written, and what is told.
TOLD: dict[str, tuple[Write, str]] = {
    "one wild value": (filled(1e20, (5, 5, 3)), "1 values in 1 pixels are more than 100,000 times"),
    "a border of 1e20": (filled(1e20, BORDER), "88 pixels are more than 100,000 times as large"),
    "a border of 9.97e36": (filled(9.97e36, BORDER), "write 'nodata: 9.97e+36'"),
    "a border of 2147483647": (filled(2**31 - 1, BORDER, np.int32), "'nodata: 2147483647'"),
    "a border of -9999": (filled(-9999, BORDER, np.int16), "write 'nodata: -9999'"),
    "a border of NaN": (filled(np.nan, BORDER), "'nodata: nan'"),
    "labels south-up": (at(LABELS[::-1], e=30.0, y=5_799_580.0), "it is upside down"),
    "labels shifted": (at(x=400_600.0), "0 rows down and 20 columns to the right"),
    "labels cropped": (at(LABELS[3:, 2:]), "11×10 pixels of 14×12"),
    "labels of smaller pixels": (
        at(np.kron(LABELS, np.ones((2, 2), "u1")), 15, e=-15),
        "0.5 by 0.5",
    ),
    "labels of another zone": (at(crs="EPSG:32632"), "(EPSG:32632), that one"),
    "labels in degrees": (
        at(a=3e-4, x=13.5, e=-3e-4, y=52.3, crs="EPSG:4326"),
        "(EPSG:4326), that",
    ),
    "ENVI labels shifted": (envi_at("1, 1, 400600, 5800000, 30, 30"), "20 columns to the right"),
    "labels cropped, without a place": (npy(labels=LABELS[3:, 2:]), "the same rows and columns"),
    "labels transposed": (
        npy(labels=LABELS.T.copy()),
        "transposed, write 'axes: [cols, rows, bands]'",
    ),
    "labels with 255": (npy(labels=np.where(LABELS, LABELS, 255)), "often means unlabelled"),
    "labels of NaN": (npy(labels=np.where(LABELS, LABELS, np.nan)), "'ignored_label: [0, nan]'"),
    "labels of -1": (npy(labels=LABELS.astype(int) - 1), "holds -1; labels of classes are"),
    "a colour picture, no colours": (npy(labels=PICTURE), "list the colour of each class"),
    "a colour that is not listed": (npy(labels=PICTURE + 1, more=COLOURS), "does not list: #"),
    "probabilities": (npy(labels=LAYERS * 0.9), "has 4 layers"),
    "an array in a struct": (mat(NESTED, "a.b", "a.gt"), "name one of: a.b.cube (14×12×10)"),
    "a file of several": (mat({"x": CUBE, "y": CUBE, "gt": LABELS}, "cube", "gt"), "no variable"),
    "bands first": (
        npy(np.moveaxis(CUBE, 2, 0).copy()),
        "if its bands come first, write 'axes: [bands, rows, cols]'",
    ),
    "an unknown key": (npy(more="ignore_bands: [1]\n"), "which is near 'ignored_bands'"),
    "maps that disagree": (
        split(LABELS, np.where(LABELS == 3, 1, LABELS)),
        "one label in the first",
    ),
    "a name in a .npy": (
        lambda folder: npy()(folder).replace("cube.npy", "{path: cube.npy, variable: x}"),
        "only .mat, HDF5 and NetCDF files have variables",
    ),
}
