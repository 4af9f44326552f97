"""Small files in the layouts of today's satellite and airborne products.

Each function writes a cube (rows, cols, bands) of reflectances 0..1 into a folder, NaN where there
are no data, and returns the lines of a scene file about it.  Three of the bands hold nothing, as
those where water absorbs; files state so in their own ways.
"""

from pathlib import Path

import h5py
import numpy as np
import rasterio

from tests.scenes.test_array_file import save_geotiff

EMPTY_BANDS = (4, 5, 11)
PRISMA = "HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields"


def wavelengths(bands: int) -> np.ndarray:
    return np.linspace(420, 2450, bands).astype(np.float32).round(3)


def good(bands: int) -> np.ndarray:
    return (~np.isin(np.arange(bands), EMPTY_BANDS)).astype(np.uint8)


def emit(folder: Path, cube: np.ndarray) -> str:
    """NASA EMIT L2A: NetCDF 4, wavelengths and good bands in a group of their own."""
    with h5py.File(folder / "emit.nc", "w") as file:
        values = np.where(good(cube.shape[2]) > 0, cube, -0.01).astype(np.float32)
        values[np.isnan(cube).any(axis=2)] = -9999
        item = file.create_dataset("reflectance", data=values, chunks=(8, 8, 16), compression=4)
        item.attrs["_FillValue"] = np.array([-9999], np.float32)
        group = file.create_group("sensor_band_parameters")
        group["wavelengths"] = wavelengths(cube.shape[2])
        group["wavelengths"].attrs["units"] = "nm"
        group["good_wavelengths"] = good(cube.shape[2])
        file["location/lat"] = np.zeros(cube.shape[:2])
    return (
        "cube: {path: emit.nc, variable: reflectance}\n"
        "wavelengths: {variable: /sensor_band_parameters/wavelengths}\n"
    )


def prisma(folder: Path, cube: np.ndarray) -> str:
    """ASI PRISMA L2D: HDF-EOS 5, bands between rows and columns, all else in root attributes."""
    bands = cube.shape[2]
    with h5py.File(folder / "prisma.he5", "w") as file:
        low, high = -0.25, 1.75
        stored = np.round((cube - low) / (high - low) * 65_535)
        stored = np.where(np.isnan(cube) | (good(bands) == 0), 0, stored).astype(np.uint16)
        item = np.ascontiguousarray(np.moveaxis(stored, 2, 1)[:, ::-1])
        file.create_dataset(f"{PRISMA}/VNIR_Cube", data=item, chunks=(4, bands, 6), compression=1)
        file.attrs["L2ScaleVnirMin"] = np.array([low], np.float32)
        file.attrs["L2ScaleVnirMax"] = np.array([high], np.float32)
        file.attrs["List_Cw_Vnir"] = np.where(good(bands) > 0, wavelengths(bands), 0)[::-1]
        file.attrs["List_Cw_Vnir_Flags"] = good(bands)[::-1]
    return (
        f"cube: {{path: prisma.he5, variable: /{PRISMA}/VNIR_Cube}}\n"
        "axes: [rows, bands, cols]\nwavelengths: {variable: /List_Cw_Vnir}\nnodata: 0\n"
    )


def neon(folder: Path, cube: np.ndarray) -> str:
    """NEON AOP: HDF5 with a divisor; which bands are bad is for the user to say."""
    with h5py.File(folder / "neon.h5", "w") as file:
        stored = np.round(np.where(good(cube.shape[2]) > 0, cube, 0) * 10_000)
        stored[np.isnan(cube).any(axis=2)] = -9999
        item = file.create_dataset("SITE/Reflectance/Reflectance_Data", data=stored.astype("<i2"))
        item.attrs["Scale_Factor"] = 10_000.0
        item.attrs["Data_Ignore_Value"] = -9999.0
        name = "SITE/Reflectance/Metadata/Spectral_Data/Wavelength"
        file[name] = wavelengths(cube.shape[2]) / 1000
        file[name].attrs["Units"] = "Micrometers"
    return (
        "cube: {path: neon.h5, variable: SITE/Reflectance/Reflectance_Data}\n"
        "ignored_bands: [4-5, 11]\n"
    )


def netcdf(folder: Path, cube: np.ndarray) -> str:
    """A cube packed by the CF conventions, bands first, at one time."""
    with h5py.File(folder / "cf.nc", "w") as file:
        stored = np.round((cube - 0.5) / 0.0001)
        stored = np.where(np.isnan(cube), -32_768, stored)
        stored[:, :, list(EMPTY_BANDS)] = -32_767
        stored = np.moveaxis(stored, 2, 0)[None].astype("<i2")
        item = file.create_dataset("radiance", data=stored, chunks=(1, 1, *cube.shape[:2]))
        item.attrs["scale_factor"], item.attrs["add_offset"] = 0.0001, 0.5
        item.attrs["_FillValue"] = np.array([-32_768], "<i2")
        item.attrs["missing_value"] = np.array([-32_767], "<i2")
        file["wavelength"] = wavelengths(cube.shape[2]).astype(float) * 1e-9
        file["wavelength"].attrs["units"] = np.bytes_("m")
    return "cube: {path: cf.nc, variable: radiance}\naxes: [bands, rows, cols]\n"


def dlr(folder: Path, cube: np.ndarray, product: str, band: str, gain: str, offset: str) -> str:
    """A GeoTIFF of whole numbers, with wavelengths and scale in the metadata file beside it."""
    stored = np.round(np.where(good(cube.shape[2]) > 0, cube, np.nan) * 10_000)
    stored = np.where(np.isnan(stored), -32_768, stored).astype(np.int16)
    save_geotiff(folder / f"{product}-SPECTRAL_IMAGE.tif", stored, nodata=-32_768)
    bands = "".join(
        f"<{band}><wavelengthCenterOfBand>{centre}</wavelengthCenterOfBand>"
        f"<{gain}>0.0001</{gain}><{offset}>0</{offset}></{band}>"
        for centre in wavelengths(cube.shape[2])
    )
    text = f"<x><specific><bandCharacterisation>{bands}</bandCharacterisation></specific></x>"
    (folder / f"{product}-METADATA.xml").write_text(f"<?xml version='1.0'?>{text}", "utf-8")
    return f"cube: {product}-SPECTRAL_IMAGE.tif\n"


def enmap(folder: Path, cube: np.ndarray) -> str:
    """DLR EnMAP L2A."""
    return dlr(folder, cube, "ENMAP", "bandID", "GainOfBand", "OffsetOfBand")


def desis(folder: Path, cube: np.ndarray) -> str:
    """DLR DESIS L2A."""
    return dlr(folder, cube, "DESIS", "band", "gainOfBand", "offsetOfBand")


def gdal(folder: Path, cube: np.ndarray) -> str:
    """A GeoTIFF as GDAL makes one of a product: scale, wavelengths and bad bands in its tags."""
    stored = np.round(np.where(np.isnan(cube), -9999, cube * 10_000)).astype(np.int16)
    save_geotiff(folder / "gdal.tif", stored, nodata=-9999)
    with rasterio.open(folder / "gdal.tif", "r+") as image:
        image.scales = [0.0001] * cube.shape[2]
        for band, centre in enumerate(wavelengths(cube.shape[2])):
            tags = {"wavelength": str(centre), "wavelength_units": "Nanometer"}
            image.update_tags(band + 1, **tags, bbl=str(good(cube.shape[2])[band]))
    return "cube: gdal.tif\n"


PRODUCTS = {make.__name__: make for make in (emit, prisma, neon, netcdf, enmap, desis, gdal)}
