"""The diagrams of the networks: what is drawn is what the networks do."""

import matplotlib.pyplot as plt
import pytest

from A2S2KResNet.A2S2KResNet import EFR, A2S2KResNet, KernelAttention
from common.layers import ConvBNReLU
from figs import canvas
from figs.make_figures import diagrams
from figs.tracing import Step, shape_text, shapes_inside, trace
from SSRN.SSRN import SSRN

PATCH = (7, 7, 200)
MAPS, WINDOW = "7×7×97, 24", "5×5×1, 24"  # before and after the spectral collapse
OUTPUTS = {
    "A2S2KResNet": {
        "patches": "7×7×200, 1",
        "kernel_1x1x7.bn": MAPS,
        "kernel_3x3x7.bn": MAPS,
        "attention": MAPS,
        "spectral_block_1.efr": MAPS,
        "spectral_block_2.efr": MAPS,
        "spectral_collapse.bn": "7×7×1, 128",
        "transpose": "7×7×128, 1",
        "spatial_stem.bn": WINDOW,
        "spatial_block_2.bn2": WINDOW,
        "mean": "24",
        "output": "16",
    },
    "SSRN": {
        "spectral_stem.bn": MAPS,
        "spectral_block_2.bn2": MAPS,
        "spectral_collapse.bn": "7×7×1, 128",
        "spatial_stem.bn": WINDOW,
        "spatial_block_2.bn2": WINDOW,
        "dropout": "24",
        "classifier": "16",
    },
}
NETWORKS = {"A2S2KResNet": A2S2KResNet, "SSRN": SSRN}


def steps_of(name: str) -> dict[str, Step]:
    return {step.name: step for step in trace(NETWORKS[name](200, 16), PATCH)}


@pytest.mark.parametrize("name", NETWORKS)
def test_shapes_are_those_of_the_layer_tables(name):
    steps = steps_of(name)
    assert {key: shape_text(steps[key].shape) for key in OUTPUTS[name]} == OUTPUTS[name]


def test_shortcuts_lead_from_a_block_to_the_next():
    steps = steps_of("A2S2KResNet")
    shortcuts = [step.reads[-1] for step in steps.values() if step.kind == "add"]
    stems_and_blocks = ["attention", "spectral_block_1.efr", "spatial_stem.bn"]
    assert [name.removesuffix("/1") for name in shortcuts] == [
        *stems_and_blocks,
        "spatial_block_1.efr",
    ]


@pytest.mark.parametrize(
    ("name", "block", "texts"),
    [
        ("A2S2KResNet", "spectral_block_1", "conv ReLU-BN-ReLU conv BN EFR +"),
        ("A2S2KResNet", "spectral_block_2", "BN-ReLU conv ReLU-BN-ReLU conv EFR +"),
        ("A2S2KResNet", "spatial_block_2", "BN-ReLU conv ReLU-BN-ReLU conv EFR + BN-ReLU"),
        ("SSRN", "spatial_block_1", "conv ReLU-BN-ReLU conv BN + ReLU"),
    ],
)
def test_blocks_are_drawn_in_the_order_of_the_layer_tables(name, block, texts):
    steps = [step for step in steps_of(name).values() if step.name.startswith(block)]
    short = {"conv": "conv", "add": "+"}
    assert " ".join(short.get(step.kind, "-".join(step.text)) for step in steps) == texts


def test_a_changed_network_changes_its_diagram():
    network = SSRN(200, 16)
    network.spectral_stem = ConvBNReLU(1, 24, (1, 1, 9), stride=(1, 1, 2), padding=(0, 0, 1))
    stem = next(s for s in trace(network, PATCH) if s.name == "spectral_stem.conv")
    assert stem.text == ("conv", "1×1×9", "stride 1×1×2", "pad 0×0×1")


def test_shapes_inside_the_weighing_blocks():
    network = A2S2KResNet(200, 16)
    attention = shapes_inside(network, network.attention, PATCH)
    assert isinstance(network.attention, KernelAttention)
    assert attention["map"] == attention["output"] == (24, 7, 7, 97)
    assert attention["squeeze"] == (100, 1, 1, 1)
    assert attention["weight"] == attention["average"] == (24,)
    efr = next(module for module in network.modules() if isinstance(module, EFR))
    assert shapes_inside(network, efr, PATCH)["weight"] == (24,)


def test_texts_neither_overlap_nor_leave_the_page(tmp_path, monkeypatch):
    pages = []
    monkeypatch.setattr(canvas, "save", lambda axis, stem: pages.append(axis))
    diagrams(tmp_path)
    for axis in pages:
        texts = [text for text in axis.texts if text.get_text()]
        extents = [text.get_window_extent().padded(-0.5) for text in texts]
        page = axis.figure.bbox
        for number, extent in enumerate(extents):
            assert page.containsx(extent.x0) and page.containsx(extent.x1), texts[number]
            assert page.containsy(extent.y0) and page.containsy(extent.y1), texts[number]
            for other in range(number):
                assert not extent.overlaps(extents[other]), (texts[number], texts[other])
        plt.close(axis.figure)
    assert len(pages) == 4


def test_diagrams_are_drawn(tmp_path):
    diagrams(tmp_path)
    names = ("A2S2KResNet", "SSRN", "kernel_attention", "EFR")
    for name in names:
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert len(list(tmp_path.iterdir())) == 2 * len(names)
