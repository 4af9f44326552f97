"""Released weights: read as what they are, tested on their authors' split, to the pixel."""

import json

import numpy as np
import pytest
import scipy.io
import torch

from common.run.cli import main as train_main
from common.scenes.array_file import open_array
from common.scenes.scene import load_scene
from common.system.errors import InputError
from SSRN import SSRNKeras
from SSRN.checkpoint_file import read_released
from SSRN.released import main
from SSRN.released_weights import LATER_COUNTS, later_split
from SSRN.SSRN import SSRN
from tests.conftest import GOLDEN, original, toy_labels
from tests.networks.released_files import (
    KERNELS,
    keras_logits,
    later_logits,
    of_comparison,
    of_keras,
    of_later_code,
    write_keras,
)
from tests.samples.test_random_split import VARIABLES

BANDS, CLASSES = 60, 9  # of the toy scene


def random_ssrn() -> SSRN:
    torch.manual_seed(0)
    network = SSRN(BANDS, CLASSES, KERNELS)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                torch.nn.init.uniform_(tensor, 0.5, 1.5)
    return network.eval()


def write(path, form: str, **options):
    """Write a checkpoint; return what its network computes of patches (batch, 1, P, P, B)."""
    if form == "SSRNKeras":
        arrays = of_keras(BANDS, CLASSES)
        write_keras(path, arrays, **options)
        return lambda patches: keras_logits(arrays, patches[:, 0])
    if form == "SSRNLeaky":
        state = of_later_code(BANDS, CLASSES)
        torch.save(state, path, **options)
        return lambda patches: later_logits(state, patches[:, 0].movedim(3, 1))
    network = random_ssrn()
    torch.save(of_comparison(network.state_dict()), path, **options)
    return network


OLD = {"_use_new_zipfile_serialization": False}
WAYS = {
    "SSRNKeras": {},
    "SSRNKeras, weights only": {"root": ""},
    "SSRNKeras, compressed": {"compression": 9},
    "SSRNLeaky": {},
    "SSRNLeaky, old": OLD,
    "SSRN": {},
    "SSRN, old": OLD,
}


@pytest.mark.parametrize("way", WAYS)
def test_reads_what_the_released_network_computes(way, tmp_path):
    form = way.partition(",")[0]
    expected = write(tmp_path / "any name", form, **WAYS[way])
    released = read_released(tmp_path / "any name")
    assert released.network.__name__ == form
    assert (released.length, released.classes, released.kernels) == (27, CLASSES, KERNELS)
    network = released.network(BANDS, CLASSES, KERNELS)
    network.load_state_dict(released.state)
    patches = torch.randn(3, 1, 7, 7, BANDS)
    with torch.no_grad():
        found = network.double().eval()(patches.double())
        torch.testing.assert_close(found, expected(patches).double(), rtol=1e-5, atol=1e-5)


def test_keras_counts_its_layers_on_from_one_model_to_the_next(tmp_path):
    arrays = of_keras(BANDS, CLASSES)
    renamed = {
        name.replace("conv3d_", "conv3d_10")
        .replace("normalization_", "normalization_1")
        .replace("dense_1", "dense_7"): array
        for name, array in arrays.items()
    }
    first, second = (write_keras(tmp_path / f"{n}", a) for n, a in enumerate((arrays, renamed)))
    states = [read_released(path).state for path in (first, second)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def without(name: str):
    return lambda arrays: {k: v for k, v in arrays.items() if not k.startswith(name)}


def changed(name: str, value):
    return lambda arrays: arrays | {name: value(arrays[name])}


BN = "batch_normalization_4/batch_normalization_4/moving_variance:0"
WRONG_KERAS = {
    "7 layers conv3d": without("conv3d_8"),
    "0 layers dense": without("dense"),
    "spatial_block.conv1.bias is missing": without("conv3d_6/conv3d_6/bias"),
    "spectral_bn_2.running_var is not finite": changed(BN, lambda a: a * np.nan),
    "a variance is negative": changed(BN, lambda a: -a),
    "spectral_bn_2.running_var has the shape (5,)": changed(BN, lambda a: np.ones(5)),
    "moving_variance:0 is no array of weights": changed(BN, lambda a: np.ones(4, int)),
}
WRONG_TORCH = {
    "its layers are those of no form": without("layer4"),
    "spectral_stem.bias is unknown": lambda s: s | {"layer1.s1.bias": torch.ones(KERNELS)},
    "first.conv.weight has the shape": changed("layer2.spc1.0.weight", lambda w: w[:, :, :5]),
    "spatial_stem.bn.weight is not finite": changed("bn4.weight", lambda w: w * torch.inf),
    "no dictionary of tensors": lambda s: {"state_dict": s},
    "no dictionary of tensors (": lambda s: s | {"fc.bias": torch.zeros(1).expand(2**40)},
}


@pytest.mark.parametrize("message", WRONG_KERAS)
def test_keras_files_of_other_networks_are_refused_in_one_line(message, tmp_path):
    path = write_keras(tmp_path / "x", WRONG_KERAS[message](of_keras(BANDS, CLASSES)))
    check_refused(path, message)


@pytest.mark.parametrize("message", WRONG_TORCH)
def test_pytorch_files_of_other_networks_are_refused_in_one_line(message, tmp_path):
    torch.save(WRONG_TORCH[message](of_later_code(BANDS, CLASSES)), tmp_path / "x")
    check_refused(tmp_path / "x", message.removesuffix(" ("))


def check_refused(path, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_released(path)
    assert str(caught.value).startswith(f"{path}: not a readable checkpoint of SSRN (")
    assert message in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"text", b"MATLAB 5.0 MAT-file, \x00\x01IM"])
def test_files_of_no_kind_are_refused_in_one_line(content, tmp_path):
    (tmp_path / "x").write_bytes(content)
    check_refused(tmp_path / "x", "(neither an HDF5 file nor one of PyTorch)")


@pytest.mark.parametrize("content", [b"PK\3\4 and no more", b"\x80", b"\x89HDF\r\n\x1a\n"])
def test_files_that_only_begin_as_checkpoints_are_refused_in_one_line(content, tmp_path):
    (tmp_path / "x").write_bytes(content)
    check_refused(tmp_path / "x", "")


def test_a_missing_file_is_told(tmp_path, capsys):
    assert main([str(tmp_path / "none.hdf5")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"error: {tmp_path}/none.hdf5: no such file")


@pytest.mark.parametrize("form", ["SSRNKeras", "SSRNLeaky", "SSRN"])
def test_leaves_a_results_directory(form, toy_data, tmp_path, capsys):
    expected = write(tmp_path / "x.pt", form)
    flags = ["-d", "UP", "--data-dir", str(toy_data), "--out", str(tmp_path / "out")]
    assert main([str(tmp_path / "x.pt"), *flags]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))
    assert (report["model"], report["dataset"]) == (form, "UP")
    split = report["split"]
    if form == "SSRNKeras":
        assert report["seeds"] == [1334]
        assert split["train"] == sum(n - int(0.9 * n) for n in np.bincount(toy_labels().flat)[1:])
    else:  # of another scene than the authors'
        assert (split["train"], split["test"]) == (0, np.count_nonzero(toy_labels()))
        assert "not known" in report["notes"][0]
    text = (tmp_path / "out" / "report.txt").read_text("utf-8")
    assert all(note in text for note in report["notes"])

    labels, cube = toy_labels(), load_scene("UP", str(toy_data)).cube.astype(float)
    if form == "SSRNLeaky":
        cube, p = (cube - cube.mean(axis=(0, 1))) / cube.max(), 4
    else:
        cube, p = (cube - cube.mean(axis=(0, 1))) / cube.std(axis=(0, 1)), 3
    padded = np.pad(cube, ((p, p), (p, p), (0, 0)))
    size, label_map = 2 * p + 1, np.load(tmp_path / "out" / "run_0" / "map.npy")
    np.testing.assert_array_equal(label_map == 0, labels == 0)
    places = np.argwhere(labels > 0)[::97]
    patches = torch.from_numpy(np.stack([padded[r : r + size, c : c + size] for r, c in places]))
    with torch.no_grad():
        found = expected(patches.float()[:, None]).argmax(1).numpy() + 1
    np.testing.assert_array_equal(label_map[tuple(places.T)], found)


def test_its_weights_serve_the_forms_own_script(toy_data, tmp_path):
    write(tmp_path / "x", "SSRNKeras")
    flags = ["-d", "UP", "--data-dir", str(toy_data)]
    assert main([str(tmp_path / "x"), *flags, "--out", str(tmp_path / "a"), "--map", "all"]) == 0
    use = ["--weights", str(tmp_path / "a" / "run_0" / "weights.pt"), "--precision", "fp32"]
    use += ["--map", "all", "--out", str(tmp_path / "b")]
    assert train_main(SSRNKeras.SSRNKeras, SSRNKeras.DEFAULTS, [*flags, *use]) == 0
    reports = [json.loads((tmp_path / n / "report.json").read_text("utf-8")) for n in "ab"]
    assert reports[0]["confusion"] == reports[1]["confusion"]
    assert reports[1]["settings"]["preprocess"] == "standardise"
    maps = [np.load(tmp_path / n / "run_0" / "map.npy") for n in "ab"]
    np.testing.assert_array_equal(*maps)


def test_a_checkpoint_of_another_scene_is_refused(toy_data, tmp_path, capsys):
    write_keras(tmp_path / "x", of_keras(103, 9))
    flags = ["-d", "UP", "--data-dir", str(toy_data), "--out", str(tmp_path / "out")]
    assert main([str(tmp_path / "x"), *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "weights for 103 or 104 bands and 9 classes, but UP has 60 bands and 9 classes" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("key", LATER_COUNTS)
def test_later_split_has_the_scripts_sizes(key, tmp_path):
    labels = ground_truth(key, tmp_path)
    split = later_split(labels, LATER_COUNTS[key], seed=2)
    labelled = np.count_nonzero(labels)
    sizes = {"IN": (10_249, 9_449), "UP": (42_776, 41_976), "KSC": (5_211, 4_411)}[key]
    assert (labelled, len(split.test)) == sizes
    assert (len(split.train), len(split.val)) == (200, 400)
    everything = np.concatenate(list(vars(split).values()))
    assert len(np.unique(everything)) == len(everything)  # the rest, 200, is held out and unused


def test_later_split_is_that_of_the_released_code(tmp_path):
    labels = ground_truth("IN", tmp_path)
    for golden in json.loads((GOLDEN / "splits_authors.json").read_text("utf-8"))["sstn_authors"][
        "IN"
    ]:
        split = later_split(labels, LATER_COUNTS["IN"], golden["seed"])
        ordered = type(split)(*(np.sort(part) for part in vars(split).values())).sha256()
        for part in ("train", "test"):
            assert ordered[part] == golden[f"{part}_sorted_sha256"]


def ground_truth(key: str, tmp_path) -> np.ndarray:
    if key == "IN":
        return load_scene("IN", str(tmp_path)).labels
    file, variable = VARIABLES[key]
    return open_array(original(file), variable).read().astype(np.int64)


def on_indian_pines(file: str, tmp_path) -> dict:
    """The report of an original checkpoint on the real Indian Pines."""
    path = original(f"weights/{file}")
    (tmp_path / "data").mkdir()
    flags = ["-d", "IN", "--data-dir", str(tmp_path / "data"), "--map", "none"]
    assert main([str(path), *flags, "--out", str(tmp_path / "out")]) == 0
    return json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))


def right_and_all(report: dict) -> list[tuple[int, int]]:
    return [(np.trace(confusion), np.sum(confusion)) for confusion in report["confusion"]]


def test_keras_weights_to_the_pixel(tmp_path):
    report = on_indian_pines("Indian_best_RES_3D_SS4_10_1.hdf5", tmp_path)
    assert right_and_all(report) == [(7129, 7169)]
    assert report["oa"] == [0.994420421258195]
    assert report["kappa"] == [0.9936434179117559]
    assert report["aa_users"] == [0.9143692315194627]
    assert "2051 of 2055 training and 1018 of 1025 validation pixels" in report["notes"][0]


@pytest.mark.slow
def test_later_weights_to_the_pixel_with_both_seeds(tmp_path):
    report = on_indian_pines("SSTN_IN_SSRN_sample200.pth", tmp_path)
    assert (report["model"], report["seeds"]) == ("SSRNLeaky", [2, 6])
    assert right_and_all(report) == [(8669, 9449), (8641, 9449)]
    first, second, outside, _ = report["notes"]
    assert "189 of 200 training" in first
    assert "200 of 200 training" in second and "181 of them are test pixels of run_0" in second
    assert "9192 of 10049 labelled pixels right" in outside


@pytest.mark.slow
def test_comparison_weights_on_all_labelled_pixels(tmp_path):
    report = on_indian_pines("comparison_SSRN_IN.pt", tmp_path)
    assert report["model"] == "SSRN"
    assert right_and_all(report) == [(10_110, 10_249)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "variable", "shape", "classes"),
    [
        ("PaviaU_gt.mat", "paviaU_gt", (610, 340, 103), 9),
        ("KSC_gt.mat", "KSC_gt", (512, 614, 176), 13),
        ("Pavia_gt.mat", "pavia_gt", (1096, 715, 102), 9),
    ],
)
@pytest.mark.parametrize("form", ["SSRNKeras", "SSRNLeaky"])
def test_scenes_of_real_size(form, file, variable, shape, classes, tmp_path):
    labels = scipy.io.loadmat(original(file))[variable]
    generator = np.random.default_rng(0)
    means = 1000 + 100 * generator.normal(size=(classes + 1, shape[2]))
    cube = (means[labels] + 50 * generator.random(labels.shape)[..., None]).astype(np.uint16)
    np.save(tmp_path / "cube.npy", cube)
    np.save(tmp_path / "gt.npy", labels)
    scene = "name: Simulated\ncube: cube.npy\nground_truth: gt.npy\n"
    (tmp_path / "scene.yaml").write_text(scene, "utf-8")
    if form == "SSRNKeras":
        write_keras(tmp_path / "x", of_keras(shape[2], classes))
    else:
        torch.save(of_later_code(shape[2], classes), tmp_path / "x")
    flags = ["-d", str(tmp_path / "scene.yaml"), "--map", "none", "--out", str(tmp_path / "out")]
    assert main([str(tmp_path / "x"), *flags]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))
    sizes = [report["split"][part] for part in ("train", "val", "test")]
    labelled = np.count_nonzero(labels)
    if form == "SSRNKeras":
        share = 0.9 if "PaviaU" in file else 0.8
        train = sum(n - int(share * n) for n in np.bincount(labels.flat)[1:])
        val = train if "PaviaU" in file else round(0.1 * labelled)
        assert sizes == [train, val, labelled - train - val]
    elif "Pavia_gt" in file:
        assert sizes == [0, 0, labelled]
    else:
        assert sizes == [200, 400, labelled - 800]
