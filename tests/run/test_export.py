"""The ONNX file computes what PyTorch computes, and brings what is needed to use it without."""

import json
import sys

import numpy as np
import pytest
import torch

import common.run.export
from A2S2KResNet.A2S2KResNet import A2S2KResNet
from baselines.SAE import SAE
from common.run.export import compare, onnx_model
from common.run.export_command import main
from common.samples.patches import Patches
from common.samples.preprocess import fit_pca_scaling
from common.samples.random_split import Split
from common.settings import Settings
from common.system.files import REPOSITORY
from common.training import trained_network
from common.training.predict import logits
from common.training.weights_file import Weights, save_weights
from SSRN.CNNL import CNNL
from SSRN.SPA import SPA
from SSRN.SPC import SPC
from SSRN.SSRN import SSRN
from SSRN.SSRNKeras import SSRNKeras
from SSRN.SSRNLeaky import SSRNLeaky
from tests.docs.pages import blocks, page

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

NETWORKS = {
    "paper": (A2S2KResNet, {"attention": "paper"}),
    "official": (A2S2KResNet, {"attention": "official"}),
    "ssrn": (SSRN, {}),
    "ssrn_keras": (SSRNKeras, {}),
    "ssrn_leaky": (SSRNLeaky, {}),
    "spc": (SPC, {}),
    "spa": (SPA, {}),
    "cnnl": (CNNL, {}),
    "sae": (SAE, {}),
}
BANDS, CLASSES, PATCH = 21, 5, 2


def random_network(name: str) -> torch.nn.Module:
    """A network whose batch norms, too, do something."""
    network, arguments = NETWORKS[name]
    torch.manual_seed(0)
    model = network(bands=BANDS, classes=CLASSES, kernels=4, **arguments).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                torch.nn.init.uniform_(tensor, 0.5, 1.5)
        elif isinstance(module, torch.nn.Linear):  # SAE's last begins as zeros
            torch.nn.init.normal_(module.weight)
    return model


def toy_cube() -> np.ndarray:
    return np.random.default_rng(0).integers(900, 5000, (9, 8, BANDS)).astype(np.uint16)


def toy_weights(name: str = "ssrn", **changes) -> Weights:
    network, arguments = NETWORKS[name]
    values = {
        "model": network.__name__,
        "network": {"bands": BANDS, "classes": CLASSES, "kernels": 4} | arguments,
        "settings": vars(Settings(name, "UP", patch=PATCH)),
        "seed": 1331,
        "class_names": ["Asphalt", "Meadows", "Gravel", "Trees", "Mühle"],
        "colours": ["#ff0000", "#00ff00", "#0000ff", "#ffff00", "#ffffff"],
        "bands": list(range(BANDS)),
        "file_bands": BANDS,
        "wavelengths": [],
        "scene_name": "",
        "scene_shape": [2, 3, BANDS],
        "labels_sha256": "",
        "split": Split(*np.arange(6).reshape(3, 2)),
        "preprocessing": fit_pca_scaling(toy_cube()),
        "state": random_network(name).state_dict(),
    }
    return Weights(**values | changes)


def run(folder, weights: Weights) -> int:
    save_weights(folder / "weights.pt", weights)
    return main([str(folder / "weights.pt"), str(folder / "model.onnx")])


@pytest.fixture(params=NETWORKS)
def exported(request, tmp_path):
    """Name of each network, and the file it was exported to."""
    assert run(tmp_path, toy_weights(request.param)) == 0
    return request.param, tmp_path / "model.onnx"


@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_onnxruntime_gives_the_logits_of_pytorch(exported, batch_size):
    name, file = exported
    patches = 3 * torch.randn(batch_size, 1, 5, 5, BANDS)
    (actual,) = onnxruntime.InferenceSession(file).run(None, {"patches": patches.numpy()})
    expected = random_network(name)(patches).detach().numpy()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert np.ptp(expected) > 0.1 * np.abs(expected).max()


def test_inputs_outputs_and_names(exported):
    name, file = exported
    session = onnxruntime.InferenceSession(file)
    (patches,), (answer,) = session.get_inputs(), session.get_outputs()
    assert (patches.name, patches.shape) == ("patches", ["batch", 1, 5, 5, BANDS])
    assert (answer.name, answer.shape) == ("logits", ["batch", CLASSES])
    notes, weights = session.get_modelmeta().custom_metadata_map, toy_weights(name)
    assert (notes["model"], notes["dataset"]) == (weights.model, "UP")
    assert json.loads(notes["class_names"]) == weights.class_names
    for part in ("mean", "matrix"):  # to the last bit
        array = getattr(weights.preprocessing, part)
        np.testing.assert_array_equal(np.array(json.loads(notes[part])), array)


def test_file_names_no_folder_of_this_machine_and_is_always_the_same(exported, tmp_path):
    name, file = exported
    content = file.read_bytes()
    assert str(REPOSITORY).encode() not in content
    assert sys.prefix.encode() not in content
    assert run(tmp_path, toy_weights(name)) == 0
    assert file.read_bytes() == content


def test_example_of_the_docs_classifies_raw_spectra_as_the_training_script(exported, monkeypatch):
    name, file = exported
    (example,) = blocks(page("docs/export.md"), "python")
    monkeypatch.chdir(file.parent)
    cube, preprocessing = toy_cube(), toy_weights(name).preprocessing
    np.save("cube.npy", cube)
    result = {}
    exec(example, result)

    patches = Patches.of_cube(cube, PATCH, torch.device("cpu"), preprocessing.apply)
    pixels = torch.from_numpy(result["rows"] * cube.shape[1] + result["cols"])
    expected = logits(random_network(name), patches, pixels)
    np.testing.assert_allclose(result["logits"], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(result["classes"], expected.argmax(1))


@pytest.mark.parametrize(("axis", "size", "step"), [(1, 3, 1), (2, 2, 3), (-1, 1, 2)])
def test_unfold(axis, size, step):
    class Windows(torch.nn.Module):
        def forward(self, x):
            return x.unfold(axis, size, step).flatten(1)

    assert compare(onnx_model(Windows(), (6, 7), {}), Windows(), (6, 7)).logits == 0


@pytest.mark.parametrize("wrong", [0.01, float("nan")])
def test_another_function_than_pytorchs_is_noticed(wrong, tmp_path, monkeypatch, capsys):
    def tampered(network, *arguments):
        network.classifier.bias.data += torch.tensor([0, 0, wrong, 0, 0])
        model = onnx_model(network, *arguments)
        network.classifier.bias.data.zero_()
        return model

    monkeypatch.setattr(common.run.export, "onnx_model", tampered)
    assert run(tmp_path, toy_weights()) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "do not agree, nothing is written" in line
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pt"]


def test_says_how_far_they_are_apart(tmp_path, capsys):
    assert run(tmp_path, toy_weights()) == 0
    text = capsys.readouterr().out
    assert "42 random patches" in text
    assert "42 of 42 predicted classes agree" in text


WRONG_WEIGHTS = {
    "network 'Nothing': this repository has no Nothing.py": {"model": "Nothing"},
    "not a weights file of this project: 'model' is damaged": {"model": "../SSRN"},
    "network 'json': this repository has no": {"model": "json"},
    "does not fit the network SSRN": {"state": {}},
    "weights.pt: does not fit the network SSRN": {
        "network": {"bands": BANDS, "classes": CLASSES, "depth": 3}
    },
    "does not fit the network A2S2KResNet": {"model": "A2S2KResNet"},
    "'settings' is damaged": {"settings": {}},
}


@pytest.mark.parametrize("message", WRONG_WEIGHTS)
def test_weights_that_cannot_be_used_are_told_in_one_line(message, tmp_path, capsys):
    assert run(tmp_path, toy_weights(**WRONG_WEIGHTS[message])) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pt"]


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("error: none.pt: no such file", ["none.pt", "model.onnx"]),
        ("README.md: not a weights file", [str(REPOSITORY / "README.md"), "model.onnx"]),
        ("weights.pt: the name of an ONNX file must end in .onnx", ["model.onnx", "weights.pt"]),
        ("nowhere/model.onnx: no such folder", ["weights.pt", "nowhere/model.onnx"]),
        ("the following arguments are required: onnx", ["weights.pt"]),
    ],
)
def test_wrong_arguments_are_told_in_one_line(message, arguments, capsys):
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_own_network_by_the_convention(tmp_path, monkeypatch, capsys):
    """Resolved in the repository only, and told where it is wrong or beyond the exporter."""
    monkeypatch.setattr(trained_network, "REPOSITORY", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    source = "import torch\nclass {}(torch.nn.Module):\n    def __init__(self, **arguments):\n"
    source += "        super().__init__()\n    def forward(self, x):\n        return {}\n"
    networks = {"Mean": "x.mean((1, 2, 3))", "Hard": "torch.special.i1(x.mean((1, 2, 3)))"}
    for name, expression in networks.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.py").write_text(source.format(name, expression), "utf-8")
    (tmp_path / "Empty").mkdir()
    (tmp_path / "Empty" / "Empty.py").write_text("Empty = 1\n", "utf-8")

    assert run(tmp_path, toy_weights(model="Mean", state={})) == 0
    (tmp_path / "model.onnx").unlink()
    capsys.readouterr()
    for name, message in {"Hard": "i1", "Empty": "no Empty.py with such a class"}.items():
        assert run(tmp_path, toy_weights(model=name, state={})) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert "SSRN" not in {path.name for path in tmp_path.iterdir()}
    assert run(tmp_path, toy_weights()) == 2
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_missing_package_is_told_with_the_command(package, tmp_path, monkeypatch, capsys):
    find = common.run.export.importlib.util.find_spec
    hidden = lambda name: None if name == package else find(name)  # noqa: E731
    monkeypatch.setattr(common.run.export.importlib.util, "find_spec", hidden)
    assert run(tmp_path, toy_weights()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{package} not installed; run: python -m pip install onnx onnxruntime" in line
