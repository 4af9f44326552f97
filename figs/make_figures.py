"""The pictures of the README: ``python figs/make_figures.py``.

The maps are drawn from the published results, the diagrams from the networks themselves.
``python figs/make_figures.py RESULTS_DIRECTORY PICTURE.png`` draws the maps of any run.
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.image import imread
from matplotlib.patches import Patch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from A2S2KResNet.A2S2KResNet import A2S2KResNet
from common.scenefile import describe
from figs.architectures import draw_network
from figs.blocks import draw_efr, draw_kernel_attention
from SSRN.SSRN import SSRN

PATCH, CLASSES = (7, 7, 200), 16  # Indian Pines: rows, cols, bands


def maps_figure(results: Path, out: Path) -> None:
    """Draw false colour, ground truth and the first iteration's map beside their legend."""
    report = json.loads((results / "report.json").read_text())
    scene = describe(report["dataset"])
    pictures = {
        "false colour": "false_color.png",
        "ground truth": "gt.png",
        f"{report['model']}, OA {100 * report['oa'][0]:.2f} %": "run_0/map.png",
    }
    figure, axes = plt.subplots(1, 3, figsize=(11, 5), layout="constrained")
    for axis, (title, name) in zip(axes, pictures.items(), strict=True):
        axis.imshow(imread(results / name), interpolation="nearest")
        axis.set_title(title)
        axis.set_axis_off()
    handles = [
        Patch(facecolor=colour, edgecolor="black", linewidth=0.5, label=name)
        for name, colour in zip(scene.classes, scene.colours, strict=True)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(out, dpi=110, metadata={"Software": None})
    plt.close(figure)


def diagrams(folder: Path) -> None:
    """Draw both networks, the selective kernels and the EFR, each as PNG and as PDF."""
    a2s2k, ssrn = A2S2KResNet(PATCH[-1], CLASSES), SSRN(PATCH[-1], CLASSES)
    draw_network(a2s2k, "A2S2K-ResNet", PATCH, folder / "A2S2KResNet")
    draw_network(ssrn, "SSRN", PATCH, folder / "SSRN")
    draw_kernel_attention(a2s2k, PATCH, folder / "kernel_attention")
    draw_efr(a2s2k, PATCH, folder / "EFR")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        maps_figure(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        published = ROOT / "results" / "published"
        maps_figure(published / "IN_A2S2KResNet_paper", ROOT / "figs" / "IN_maps.png")
        diagrams(ROOT / "figs")
