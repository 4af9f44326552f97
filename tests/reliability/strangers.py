"""Files as strangers send them: small valid ones, and ones made to do harm.

Every function of `HOSTILE` writes its file into an empty folder and returns the path to read.
"""

import contextlib
import io
import os
import pickle
import sqlite3
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import rasterio
import scipy.io
import shapely
import torch

from common.training.weights_file import save_weights
from tests.networks.released_files import of_keras, of_later_code, write_keras
from tests.run.test_export import toy_weights
from tests.scenes.products import enmap
from tests.scenes.test_array_file import save_envi, save_geotiff
from tests.scenes.test_geotiff_file import save_masked
from tests.scenes.test_vector_labels import save_fields

CUBE = np.random.default_rng(0).integers(0, 4000, (6, 5, 9)).astype(np.uint16)
FLOATS = CUBE.astype(np.float32)
LABELS = (np.arange(30).reshape(6, 5) % 4).astype(np.uint8)
MARKER = "ran"  # the file that code leaves, if it runs
IN_MAT = "cube: {path: x.mat, variable: cube}\nground_truth: {path: x.mat, variable: gt}\n"


class Pickled:
    """Leaves `MARKER` in the working directory when it is unpickled."""

    def __reduce__(self):
        return os.system, (f"echo > {MARKER}",)


def scene(folder: Path, text: str) -> Path:
    (folder / "x.yaml").write_text(f"name: Field\n{text}", "utf-8")
    return folder / "x.yaml"


def v5(folder: Path, **options) -> Path:
    more = {"cell": np.array([1, "x"], object), "text": "abc", "parts": {"a": 1}}
    scipy.io.savemat(folder / "x.mat", {"cube": CUBE, "gt": LABELS} | more, **options)
    return scene(folder, IN_MAT)


def v73(folder: Path, **options) -> Path:
    with h5py.File(folder / "x.mat", "w", userblock_size=512) as file:
        for name, array in (("cube", CUBE), ("gt", LABELS)):
            file.create_dataset(name, data=array.T, **options)
    return scene(folder, IN_MAT)


def v5_struct(folder: Path, **options) -> Path:
    parts = {"text": "abc", "inner": {"cube": CUBE, "none": []}, "gt": LABELS}
    scipy.io.savemat(folder / "x.mat", {"hsi": parts}, **options)
    return scene(folder, IN_MAT.replace("cube}", "hsi.inner.cube}").replace("gt}", "hsi.gt}"))


def hdf5(folder: Path, name: str = "x.h5", axes: str = "rows, cols, bands", **options) -> Path:
    """A cube in a group with all that attributes and other arrays may say of it."""
    order = [("rows", "cols", "bands").index(axis) for axis in axes.split(", ")]
    with h5py.File(folder / name, "w") as file:
        file.create_dataset("a/cube", data=CUBE.transpose(order), **options)
        fill = {"_FillValue": np.array([9999], "u2"), "scale_factor": 0.1, "add_offset": 1.0}
        fill |= {"valid_range": np.array([0, 60_000], "u2"), "_Unsigned": "true"}
        file["a/cube"].attrs.update(fill)
        file["b/gt"], file["b/good_bands"] = LABELS, np.array([1] * 8 + [0], "u1")
        file["b/wavelengths"] = np.linspace(0.4, 2.4, 9)
        file["b/wavelengths"].attrs["units"] = "um"
    text = f"cube: {{path: {name}, variable: /a/cube}}\naxes: [{axes}]\n"
    text += f"ground_truth: {{path: {name}, variable: /b/gt}}\n"
    return scene(folder, text + "wavelengths: {variable: /b/wavelengths}\n")


def masked(folder: Path) -> Path:
    """A GeoTIFF with a mask, scales and wavelengths."""
    save_masked(folder / "x.tif", CUBE, LABELS > 0, "inside")
    with rasterio.open(folder / "x.tif", "r+") as image:
        image.scales = [0.1] * 9
        for band in image.indexes:
            image.update_tags(band, wavelength=f"{400 + band}", wavelength_units="nm", bbl="1")
    return scene(folder, "cube: x.tif\nignored_bands: [0]\n")


def product(folder: Path) -> Path:
    """An EnMAP image with its metadata file."""
    return scene(folder, enmap(folder, np.tile(CUBE / 9999, (1, 1, 2))))


def npy(folder: Path, cube: np.ndarray = FLOATS) -> Path:
    np.save(folder / "x.npy", cube)
    return scene(folder, "cube: x.npy\nnodata: nan\n")


def geotiff(folder: Path) -> Path:
    save_geotiff(folder / "x.tif", CUBE, crs=None)
    return scene(folder, "cube: x.tif\n")


def vector(name: str, **options) -> Callable[[Path], Path]:
    """A cube with polygons for its labels: one for each pixel, in three classes."""

    def write(folder: Path) -> Path:
        save_geotiff(folder / "x.tif", CUBE)
        left, top = 500_000 + 10 * np.arange(5), 5_000_000 - 10 * np.arange(6)
        shapes = [shapely.box(x, y - 10, x + 10, y) for y in top for x in left]
        names = [("Rye", "Oats", "Maize")[n % 3] for n in range(30)]
        save_fields(folder / name, shapes, names, **options)
        return scene(folder, f"cube: x.tif\nground_truth: {{path: {name}, attribute: crop}}\n")

    return write


def envi(folder: Path) -> Path:
    metadata = {"wavelength": [400.0 + i for i in range(9)], "map info": ["UTM", "1", "1"]}
    save_envi(folder / "x.img", CUBE, metadata=metadata)
    return scene(folder, "cube: x.hdr\n")


def described(folder: Path) -> Path:
    npy(folder)
    lists = "classes: [Rye, Oats, Maize]\nrgb_bands: [1, 2, 3]\nwavelengths: [4, 5, 6, 7, 8, 9, 10"
    return scene(folder, f"cube: x.npy\n{lists}, 11, 12]\nignored_label: [0, 255]\nnodata: -9999\n")


def weights(folder: Path, **changes) -> Path:
    save_weights(folder / "x.pt", toy_weights(**changes))
    return folder / "x.pt"


def keras(folder: Path, **options) -> Path:
    return write_keras(folder / "x.hdf5", of_keras(9, 5), **options)


def later(folder: Path, **options) -> Path:
    torch.save(of_later_code(9, 5), folder / "x.pth", **options)
    return folder / "x.pth"


OLD = {"_use_new_zipfile_serialization": False}  # PyTorch's format before 1.6

# What a valid sample is made by, and the file of it that random changes go to.
SAMPLES: dict[str, tuple[Callable[[Path], Path], str]] = {
    ".mat v5": (v5, "x.mat"),
    ".mat v5, compressed": (lambda folder: v5(folder, do_compression=True), "x.mat"),
    ".mat v7.3": (v73, "x.mat"),
    ".mat v7.3, compressed": (lambda folder: v73(folder, chunks=True, compression=9), "x.mat"),
    ".npy": (npy, "x.npy"),
    "GeoTIFF": (geotiff, "x.tif"),
    "ENVI": (envi, "x.hdr"),
    ".mat v5, struct": (v5_struct, "x.mat"),
    ".mat v5, compressed struct": (lambda f: v5_struct(f, do_compression=True), "x.mat"),
    "HDF5": (hdf5, "x.h5"),
    "HDF5, compressed": (lambda f: hdf5(f, chunks=(3, 5, 2), compression=9), "x.h5"),
    "NetCDF 4, bands first": (lambda f: hdf5(f, "x.nc", "bands, rows, cols"), "x.nc"),
    "HDF-EOS 5, bands between": (lambda f: hdf5(f, "x.he5", "rows, bands, cols"), "x.he5"),
    "GeoTIFF with a mask": (masked, "x.tif"),
    "metadata of EnMAP": (product, "ENMAP-METADATA.xml"),
    "GeoPackage": (vector("x.gpkg"), "x.gpkg"),
    "GeoPackage, other system": (vector("x.gpkg", crs=4326), "x.gpkg"),
    "Shapefile": (vector("x.shp"), "x.shp"),
    "Shapefile's table": (vector("x.shp"), "x.dbf"),
    "GeoJSON": (vector("x.geojson", crs=4326), "x.geojson"),
    "scene file": (described, "x.yaml"),
    "weights": (weights, "x.pt"),
    "Keras checkpoint": (keras, "x.hdf5"),
    "Keras checkpoint, compressed": (lambda folder: keras(folder, compression=9), "x.hdf5"),
    "PyTorch checkpoint": (later, "x.pth"),
    "PyTorch checkpoint, old": (lambda folder: later(folder, **OLD), "x.pth"),
}


def element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(name: bytes, kind: int, shape: tuple[int, ...], data: bytes) -> bytes:
    """A variable of a .mat file of version 5."""
    head = element(6, struct.pack("<II", kind, 0)) + element(
        5, struct.pack(f"<{len(shape)}i", *shape)
    )
    return element(14, head + element(1, name) + data)


def v5_of(folder: Path, *elements: bytes) -> Path:
    (folder / "x.mat").write_bytes(b"MATLAB 5.0".ljust(124) + b"\0\1IM" + b"".join(elements))
    return scene(folder, IN_MAT)


def v5_cube(shape: tuple[int, ...], data: bytes) -> Callable[[Path], Path]:
    return lambda folder: v5_of(folder, matrix(b"cube", 9, shape, data))


def nested_cells(folder: Path) -> Path:
    """Cells in cells, under the name and the flag of an array of logicals."""
    data = element(2, bytes(8))
    for _ in range(20_000):
        data = matrix(b"", 1, (1, 1), data)
    return v5_of(folder, matrix(b"cube", 1 | 0x200, (1, 1), data), matrix(b"cube", 9, (1, 8), data))


def v5_bomb(folder: Path) -> Path:
    """Half a mebibyte that says it is four pixels and inflates to 512 MiB."""
    inflated = matrix(b"cube", 9, (2, 2, 9), element(2, bytes(36)))
    inflated = struct.pack("<II", 14, 2**30) + inflated[8:] + bytes(2**29)
    data = zlib.compress(inflated, 9)
    return v5_of(folder, struct.pack("<II", 15, len(data)) + data)  # never padded


def with_v73(folder: Path, change: Callable[[h5py.File], None]) -> Path:
    path = v73(folder)
    with h5py.File(folder / "x.mat", "a") as file:
        del file["cube"]
        change(file)
    return path


def external_link(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")  # opening it would never end
    return with_v73(folder, lambda file: file.__setitem__("cube", h5py.ExternalLink("pipe", "/x")))


def external_storage(folder: Path) -> Path:
    parts = [("/etc/passwd", 0, 270)]
    return with_v73(folder, lambda f: f.create_dataset("cube", (9, 5, 6), "u1", external=parts))


def virtual_dataset(folder: Path) -> Path:
    layout = h5py.VirtualLayout((9, 5, 6), "u1")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (9, 5, 6))
    return with_v73(folder, lambda file: file.create_virtual_dataset("cube", layout))


def sparse_v73(shape: tuple[int, ...]) -> Callable[[Path], Path]:
    chunks = tuple(min(n, 64) for n in shape)
    make = lambda file: file.create_dataset("cube", shape, "u2", chunks=chunks)  # noqa: E731
    return lambda folder: with_v73(folder, make)


def with_hdf5(change: Callable[[h5py.File], None]) -> Callable[[Path], Path]:
    """An HDF5 file whose cube is not as it was."""

    def write(folder: Path) -> Path:
        path = hdf5(folder)
        (folder / "other.h5").write_bytes((folder / "x.h5").read_bytes())
        with h5py.File(folder / "x.h5", "a") as file:
            del file["a/cube"]
            change(file)
        return path

    return write


def hdf5_array(shape: tuple[int, ...], chunks: tuple[int, ...], **options) -> Callable:
    return with_hdf5(lambda f: f.create_dataset("a/cube", shape, "u2", chunks=chunks, **options))


def hdf5_virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((6, 5, 9), "u2")
    layout[:] = h5py.VirtualSource("other.h5", "a/cube", (6, 5, 9))
    file.create_virtual_dataset("a/cube", layout)


def hdf5_chunk(*filters: int) -> h5py.h5p.PropDCID:
    """Say that an array is one chunk, which goes through these filters."""
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_chunk((6, 5, 9))
    for code in filters:
        made.set_filter(code, h5py.h5z.FLAG_OPTIONAL, (9,))
    return made


def hdf5_filtered(file: h5py.File, *filters: int, data: bytes = b"") -> None:
    space = h5py.h5s.create_simple((6, 5, 9))
    array = h5py.h5d.create(file.id, b"a/cube", h5py.h5t.STD_U16LE, space, hdf5_chunk(*filters))
    if data:
        array.write_direct_chunk((0, 0, 0), data)


def hdf5_bomb(file: h5py.File) -> None:
    """1 GiB of zeros in the chunk of a small array, compressed twice to some kilobytes."""
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(2**24)) for _ in range(64)) + packer.flush()
    deflate = h5py.h5z.FILTER_DEFLATE
    hdf5_filtered(file, deflate, deflate, data=zlib.compress(data, 9))


def hdf5_many(file: h5py.File) -> None:
    """Groups in groups in circles, and ten thousand more."""
    file["a/again"], file["b/again"] = file["/"], file["a"]
    for number in range(10_000):
        file.create_group(f"a/{number}")


def struct_of(name: bytes, names: bytes, fields: bytes) -> bytes:
    """A MATLAB struct: `names` of four bytes each, and the elements that are its fields."""
    head = element(6, struct.pack("<II", 2, 0)) + element(5, struct.pack("<2i", 1, 1))
    return element(
        14, head + element(1, name) + element(5, b"\4\0\0\0") + element(1, names) + fields
    )


def compressed(folder: Path, data: bytes) -> Path:
    data = zlib.compress(data, 9)
    return v5_of(folder, struct.pack("<II", 15, len(data)) + data)


def nested_structs(folder: Path) -> Path:
    """A million empty fields in a thousand structs, and more structs in structs."""
    fields = struct_of(b"", b"abc\0" * 1000, element(14, b"") * 1000) * 1000
    for _ in range(20):
        fields = struct_of(b"", b"abc\0" * (1000 if len(fields) < 10**7 else 1), fields)
    return compressed(folder, struct_of(b"hsi", b"abc\0", fields))


def huge_struct(folder: Path) -> Path:
    """A field of 4 GiB, of which 2.2 are there as zeros, before the one that is asked for."""
    head = element(6, struct.pack("<II", 2, 0)) + element(5, struct.pack("<2i", 1, 1))
    names = element(5, b"\4\0\0\0") + element(1, b"a\0\0\0b\0\0\0")
    start = struct.pack("<II", 14, 2**32 - 8) + head + element(1, b"hsi") + names
    field = element(6, struct.pack("<II", 9, 0)) + element(5, struct.pack("<2i", 1, 1))
    start += struct.pack("<II", 14, 2**32 - 1000) + field + element(1, b"")
    packer = zlib.compressobj(1)
    data = packer.compress(start) + b"".join(packer.compress(bytes(2**24)) for _ in range(140))
    data += packer.flush()
    return v5_of(folder, struct.pack("<II", 15, len(data)) + data)


def metadata(change: Callable[[str], str]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = product(folder)
        file = folder / "ENMAP-METADATA.xml"
        file.write_text(change(file.read_text("utf-8")), "utf-8")
        return path

    return write


LAUGHS = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(9))
ENTITIES = f'<!DOCTYPE x [<!ENTITY l0 "ha">{LAUGHS}]>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "/etc/passwd">]>'


def npy_header(header: str, data: bytes = bytes(800)) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        text = header.encode()
        content = b"\x93NUMPY\2\0" + struct.pack("<I", len(text)) + text + data
        (folder / "x.npy").write_bytes(content)
        return scene(folder, "cube: x.npy\n")

    return write


def npy_shape(shape: str, descr: str = "'<u2'") -> Callable[[Path], Path]:
    return npy_header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n")


def yaml(text: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        npy(folder)
        return scene(folder, text)

    return write


def labels(values: np.ndarray) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        np.save(folder / "gt.npy", values)
        npy(folder)
        return scene(folder, "cube: x.npy\nground_truth: gt.npy\n")

    return write


def in_geopackage(*statements: str) -> Callable[[Path], Path]:
    """A GeoPackage after SQL statements."""

    def write(folder: Path) -> Path:
        path = vector("x.gpkg")(folder)
        with contextlib.closing(sqlite3.connect(folder / "x.gpkg")) as database:
            names = database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
            for (name,) in names.fetchall():  # they call functions that only GDAL has
                database.execute(f'DROP TRIGGER "{name}"')
            for statement in statements:
                database.execute(statement)
            database.commit()
        return path

    return write


def instead(name: str, content: bytes) -> Callable[[Path], Path]:
    """Other content under the name of a vector file."""

    def write(folder: Path) -> Path:
        path = vector(name)(folder)
        (folder / name).write_bytes(content)
        return path

    return write


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
VIEW_OF_LAYER = (
    "ALTER TABLE x RENAME TO y",
    f"CREATE VIEW x AS {ENDLESS} SELECT y.* FROM y, n",
)
VIEW_OF_CONTENTS = (
    "ALTER TABLE gpkg_contents RENAME TO y",
    f"CREATE VIEW gpkg_contents AS {ENDLESS} SELECT y.* FROM y, n",
)
VRT = b"""<OGRVRTDataSource><OGRVRTLayer name="x"><SrcDataSource>/etc/passwd</SrcDataSource>
</OGRVRTLayer></OGRVRTDataSource>"""
RING = ",".join(["[500000, 5000000]"] * 200_000)
GEOMETRY = f'{{"type": "Polygon", "coordinates": [[{RING}]]}}'
FEATURE = f'{{"type": "Feature", "properties": {{"crop": "a"}}, "geometry": {GEOMETRY}}}'


def special(make: Callable[[Path], None], name: str) -> Callable[[Path], Path]:
    """No file at all under a name that is read: as scene file, or as its cube."""

    def write(folder: Path) -> Path:
        make(folder / name)
        return folder / name if name != "x.npy" else scene(folder, "cube: x.npy\n")

    return write


def pipe(path: Path) -> None:
    os.mkfifo(path)  # which Windows has not


def torch_file(content: object) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        torch.save(content, folder / "x.pt")
        return folder / "x.pt"

    return write


def raw_pickle(folder: Path) -> Path:
    (folder / "x.pt").write_bytes(pickle.dumps(Pickled()))
    return folder / "x.pt"


def deflated_weights(folder: Path) -> Path:
    """The same entries, compressed, one of them 512 MiB of zeros."""
    path = weights(folder)
    with (
        zipfile.ZipFile(io.BytesIO(path.read_bytes())) as old,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, bytes(2**29) if name.endswith("data/0") else old.read(name))
    return path


def with_keras(folder: Path, change: Callable[[h5py.Group, str], None]) -> Path:
    """A Keras checkpoint whose last layer's kernel is something else."""
    path = keras(folder)
    with h5py.File(path, "a") as file:
        layer = file["model_weights/dense_1/dense_1"]
        del layer["kernel:0"]
        change(layer, "kernel:0")
    return path


def keras_link(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    link = h5py.ExternalLink("pipe", "/x")
    return with_keras(folder, lambda layer, name: layer.__setitem__(name, link))


def keras_external(folder: Path) -> Path:
    parts = [("/etc/passwd", 0, 80)]
    make = lambda layer, name: layer.create_dataset(name, (4, 5), "f4", external=parts)  # noqa: E731
    return with_keras(folder, make)


def keras_virtual(folder: Path) -> Path:
    layout = h5py.VirtualLayout((4, 5), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4, 5))
    return with_keras(folder, lambda layer, name: layer.create_virtual_dataset(name, layout))


def keras_sparse(shape: tuple[int, ...]) -> Callable[[Path], Path]:
    make = lambda layer, name: layer.create_dataset(name, shape, "f4", chunks=(4, 64))  # noqa: E731
    return lambda folder: with_keras(folder, make)


def old_torch_file(content: object) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        torch.save(content, folder / "x.pth", **OLD)
        return folder / "x.pth"

    return write


def old_pickle_of_a_terabyte(folder: Path) -> Path:
    """A checkpoint whose pickle says that a storage has 2**38 numbers; the file has ten."""
    torch.save({"a": torch.zeros(0x0A0B0C)}, folder / "x.pth", **OLD)
    data = (folder / "x.pth").read_bytes()
    length = data.index(b"J" + struct.pack("<I", 0x0A0B0C))
    data = data[:length] + b"\x8a\x06" + struct.pack("<Q", 2**38)[:6] + data[length + 5 :]
    (folder / "x.pth").write_bytes(data[: -4 * 0x0A0B0C + 40])
    return folder / "x.pth"


class Bytes:
    """A bytearray of 1 GiB, which a pickle of a few bytes may ask for."""

    def __reduce__(self):
        return bytearray, (2**30,)


def list_bomb() -> list:
    lists: list = ["x"]
    for _ in range(40):
        lists = [lists, lists]
    return lists


SETTINGS = toy_weights().settings
STRETCHED = torch.zeros(1).expand(2**40)
BOMB = "".join(f"k{n + 1}: &k{n + 1} [{', '.join([f'*k{n}'] * 9)}]\n" for n in range(9))
MERGE = "".join(f"k{n + 1}: &k{n + 1} {{<<: [{', '.join([f'*k{n}'] * 9)}]}}\n" for n in range(9))
HOSTILE: dict[str, Callable[[Path], Path]] = {
    "cells in cells": nested_cells,
    "v5 bomb": v5_bomb,
    "v5 of 2**93 values": v5_cube((2**31 - 1,) * 3, element(2, b"")),
    "v5 of negative size": v5_cube((-2, -2, 9), element(2, b"1" * 36)),
    "v5 of an unknown type": v5_cube((2, 2, 9), element(77, b"1" * 36)),
    "link to a pipe": external_link,
    "data in another file": external_storage,
    "virtual data": virtual_dataset,
    "v7.3 of 2**90 values": sparse_v73((2**30, 2**30, 2**30)),
    "v7.3 of 1 TiB": sparse_v73((200, 2**16, 2**15)),
    "HDF5 link to another file": with_hdf5(
        lambda file: file.__setitem__("a/cube", h5py.ExternalLink("other.h5", "/a/cube"))
    ),
    "HDF5 link in the file": with_hdf5(
        lambda file: file.__setitem__("a/cube", h5py.SoftLink("/b/gt"))
    ),
    "HDF5 data in another file": with_hdf5(
        lambda f: f.create_dataset("a/cube", (6, 5, 9), "u1", external=[("/etc/passwd", 0, 270)])
    ),
    "HDF5 virtual data": with_hdf5(hdf5_virtual),
    "HDF5 of 2**90 values": hdf5_array((2**30,) * 3, (64,) * 3),
    "HDF5 of 1 TiB": hdf5_array((200, 2**16, 2**15), (64,) * 3),
    "HDF5 of chunks of 2 GiB": hdf5_array((6, 5, 9), (1000,) * 3, maxshape=(None,) * 3),
    "HDF5 compressed twice": with_hdf5(hdf5_bomb),
    "HDF5 of an unknown filter": with_hdf5(lambda file: hdf5_filtered(file, 32_015)),
    "HDF5 of many groups": with_hdf5(hdf5_many),
    "HDF5 of records": with_hdf5(lambda f: f.__setitem__("a/cube", np.zeros((6, 5, 9), "u1,u1"))),
    "structs in structs": nested_structs,
    "struct of 4 GiB": huge_struct,
    "metadata of entities": metadata(lambda t: t.replace("<x>", f"{ENTITIES}<x>&l9;")),
    "metadata of another file": metadata(lambda t: t.replace("<x>", f"{OUTSIDE}<x>&a;")),
    "deep metadata": metadata(lambda text: "<x>" * 10**6),
    "bands up to 999999999": yaml("cube: x.npy\nignored_bands: [0-999999999]\n"),
    "npy of a pickle": lambda folder: npy(folder, np.array([[Pickled()]])),
    "npy of 2**66 values": npy_shape("(4294967296, 4294967296, 4)"),
    "npy of 2**400 values": npy_shape(str((2**100,) * 4)),
    "npy of negative size": npy_shape("(-2, -5, 9)"),
    "npy of NaN size": npy_shape("(2, float('nan'), 9)"),
    "npy of records": npy_shape("(2, 5, 9)", "[('a', '<u2')]"),
    "npy of huge items": npy_shape("(2, 5, 9)", "'V2147483647'"),
    "npy with a deep header": npy_header("(" * 9000 + ")" * 9000),
    "npy with a long header": npy_header(" " * 2**20),
    "npy with minus signs": npy_header("-" * 9000 + "1"),
    "aliases": yaml(f"k0: &k0 [a]\n{BOMB}cube: x.npy\n"),
    "merged aliases": yaml(f"k0: &k0 {{a: b}}\n{MERGE}cube: x.npy\n"),
    "YAML of an object": yaml(f"cube: !!python/object/apply:os.system ['touch {MARKER}']\n"),
    "YAML of a new object": yaml("cube: !!python/object/new:subprocess.Popen [[touch, ran]]\n"),
    "deep YAML": yaml("cube: " + "[" * 50_000),
    "deep YAML mappings": yaml("cube: " + "{a: " * 50_000),
    "large YAML": yaml("classes: [" + "a, " * 2**20 + "]\n"),
    "long integer": yaml(f"cube: x.npy\nignored_label: {'9' * 5000}\n"),
    "long hexadecimal": yaml(f"cube: x.npy\nignored_label: 0x{'f' * 5000}\n"),
    "long band": yaml(f"cube: x.npy\nrgb_bands: [1, 2, 0x{'f' * 5000}]\n"),
    "long nodata": yaml(f"cube: x.npy\nnodata: 0x{'f' * 5000}\n"),
    "long sexagesimal": yaml(f"cube: x.npy\nnodata: 1{':1' * 60_000}\n"),
    "NUL in a path": yaml('cube: "x\\0.npy"\n'),
    "line feed in a path": yaml('cube: "x\\n.npy"\n'),
    "terminal codes in a path": yaml('cube: "\\e[2J.npy"\n'),
    "long path": yaml(f"cube: {'x/' * 10_000}x.npy\n"),
    "long file name": yaml(f"cube: {'x' * 300}.npy\n"),
    "lone surrogate": yaml('cube: "\\ud800.npy"\n'),
    "label 2**40": labels(np.where(LABELS == 3, 2**40, LABELS.astype(np.int64))),
    "label 1e300": labels(np.where(LABELS == 3, 1e300, LABELS)),
    "label 2**63": labels(np.where(LABELS == 3, 2**63, LABELS.astype(np.uint64))),
    "label NaN": labels(np.where(LABELS == 3, np.nan, LABELS)),
    "label -2**63": labels(np.where(LABELS == 3, -(2**63), LABELS.astype(np.int64))),
    "GeoPackage with an endless view": in_geopackage(*VIEW_OF_LAYER),
    "GeoPackage with endless contents": in_geopackage(*VIEW_OF_CONTENTS),
    "GeoPackage of nonsense geometries": in_geopackage("UPDATE x SET geom = randomblob(60)"),
    "GeoPackage without its tables": in_geopackage("DROP TABLE gpkg_geometry_columns"),
    "GeoPackage of a huge ring": in_geopackage(
        "UPDATE x SET geom = x'47500001797F0000010300000001000000FFFFFF0F'"
    ),
    "virtual file as GeoJSON": instead("x.geojson", VRT),
    "virtual file as GeoPackage": instead("x.gpkg", VRT),
    "deep GeoJSON": instead("x.geojson", b'{"a":' * 100_000),
    "GeoJSON of a point repeated": instead("x.geojson", FEATURE.encode()),
    "Shapefile that says 2 GiB": instead("x.shp", b"\0\0\x27\x0a" + b"\x7f\xff" * 60),
    "empty cube": special(lambda path: path.touch(), "x.npy"),
    "folder as cube": special(Path.mkdir, "x.npy"),
    "pipe as cube": special(pipe, "x.npy"),
    "link to itself as cube": special(lambda path: path.symlink_to(path), "x.npy"),
    "endless device as cube": special(lambda path: path.symlink_to("/dev/zero"), "x.npy"),
    "empty scene file": special(lambda path: path.touch(), "x.yaml"),
    "folder as scene file": special(Path.mkdir, "x.yaml"),
    "pipe as scene file": special(pipe, "x.yaml"),
    "link to itself as scene file": special(lambda path: path.symlink_to(path), "x.yaml"),
    "endless device as scene file": special(lambda path: path.symlink_to("/dev/zero"), "x.yaml"),
    "pipe as weights": special(pipe, "x.pt"),
    "endless device as weights": special(lambda path: path.symlink_to("/dev/zero"), "x.pt"),
    "weights of a pickle": raw_pickle,
    "weights of a pickle in a PyTorch file": torch_file({"model": Pickled()}),
    "weights of a large bytearray": torch_file({"model": Bytes()}),
    "deflated weights": deflated_weights,
    "weights of shared lists": lambda f: weights(f, settings=SETTINGS | {"lr": list_bomb()}),
    "weights of one stretched tensor": lambda f: weights(f, state={"a": STRETCHED}),
    "weights of a path": lambda f: weights(f, model="../../etc/passwd"),
    "weights of two lines": lambda f: weights(f, scene_name="a\nb"),
    "weights of NaN": lambda f: weights(f, state={"a": torch.tensor(torch.nan)}),
    "weights of huge patches": lambda f: weights(f, settings=SETTINGS | {"patch": 2**40}),
    "Keras link to a pipe": keras_link,
    "Keras data in another file": keras_external,
    "Keras virtual data": keras_virtual,
    "Keras kernel of 256 GiB": keras_sparse((2**18, 2**18)),
    "Keras kernel of 60 MiB, not stored": keras_sparse((4, 15 * 2**18)),
    "pipe as Keras checkpoint": special(pipe, "x.hdf5"),
    "endless device as checkpoint": special(lambda path: path.symlink_to("/dev/zero"), "x.pth"),
    "old checkpoint of a pickle": old_torch_file({"fc.weight": Pickled()}),
    "old checkpoint of a large bytearray": old_torch_file({"fc.weight": Bytes()}),
    "old checkpoint of a terabyte": old_pickle_of_a_terabyte,
    "old checkpoint of one stretched tensor": old_torch_file({"fc.weight": STRETCHED}),
    "old checkpoint of shared lists": old_torch_file(list_bomb()),
    "weights of a style sheet": lambda f: weights(f, colours=["red;}</style><script>"] * 5),
}  # fmt: skip
