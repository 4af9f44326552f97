"""pyproject.toml, requirements*.txt, environment.yml and setup_script.sh name the same things."""

import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from common.run.cluster import INSTALL
from common.system.files import REPOSITORY

CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
OLDEST_PYTHON = PROJECT["requires-python"].removeprefix(">=")


def ranges(lines: list[str]) -> dict:
    """Package name → version specifier, of those for every system."""
    requirements = map(Requirement, lines)
    return {canonicalize_name(r.name): r.specifier for r in requirements if not r.marker}


def pins(file: str) -> dict[str, str]:
    """Package name → pinned version, of one requirements file without those it includes."""
    lines = (REPOSITORY / file).read_text("utf-8").splitlines()
    specifiers = ranges([line for line in lines if not line.startswith(("#", "-r "))])
    assert all(re.fullmatch(r"==[\d.]+", str(s)) for s in specifiers.values()), file
    return {name: str(specifier).removeprefix("==") for name, specifier in specifiers.items()}


@pytest.mark.parametrize(
    ("file", "dependencies"),
    [
        ("requirements.txt", PROJECT["dependencies"]),
        (
            "requirements-test.txt",
            EXTRAS["test"] + EXTRAS["onnx"] + EXTRAS["vector"] + EXTRAS["cluster"],
        ),
    ],
)
def test_pins_lie_in_the_ranges_of_pyproject(file, dependencies):
    pinned, allowed = pins(file), ranges(dependencies)
    assert pinned.keys() == allowed.keys()
    for name, version in pinned.items():
        assert version in allowed[name], name


def test_test_requirements_include_the_others():
    assert (
        "-r requirements.txt"
        in (REPOSITORY / "requirements-test.txt").read_text("utf-8").splitlines()
    )


def test_conda_environment_has_the_same_versions():
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text("utf-8"))
    python, *packages = environment["dependencies"]
    pinned = pins("requirements.txt") | pins("requirements-test.txt")
    assert packages == [f"{CONDA_NAMES.get(name, name)}={pinned[name]}" for name in pinned]
    assert python == f"python>={OLDEST_PYTHON}"


def test_reading_a_geotiff_without_rasterio_names_the_tested_version():
    pinned = pins("requirements-test.txt")["rasterio"]
    assert f"pip install rasterio=={pinned}" in (
        REPOSITORY / "common/scenes/georeference.py"
    ).read_text("utf-8")
    [extra] = PROJECT["optional-dependencies"]["geotiff"]
    assert extra in PROJECT["optional-dependencies"]["test"]


def test_vector_labels_without_their_libraries_name_the_tested_versions():
    pinned, text = pins("requirements-test.txt"), ranges(EXTRAS["vector"])
    said = (REPOSITORY / "common/scenes/vector_labels.py").read_text("utf-8")
    assert all(f"{name}=={pinned[name]}" in said for name in text)


def test_a_cluster_without_dask_names_the_tested_versions():
    pinned, dask = pins("requirements-test.txt"), ranges(EXTRAS["cluster"])
    assert f"pip install {' '.join(f'{name}=={pinned[name]}' for name in dask)}" == INSTALL


def test_setup_script_wants_the_same_python():
    script = (REPOSITORY / "setup_script.sh").read_text("utf-8")
    assert f"sys.version_info < ({OLDEST_PYTHON.replace('.', ', ')})" in script
    assert f"no Python >= {OLDEST_PYTHON} " in script
