"""The pictures of the README and of docs/: ``python figs/make_figures.py``.

The maps are drawn from the published results, the diagrams from the networks themselves.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from A2S2KResNet.A2S2KResNet import A2S2KResNet
from common.reporting.figures import encoded
from common.reporting.map_figures import maps
from common.reporting.read_results import read_outcome
from common.system.errors import InputError, OneLineParser, run_program
from common.system.files import write_file
from common.tables.curve_points import read_points
from common.tables.curves_figure import encoded_curves
from figs.architectures import draw_network
from figs.blocks import draw_efr, draw_kernel_attention
from SSRN.SSRN import SSRN

PATCH, CLASSES = (7, 7, 200), 16  # Indian Pines: rows, cols, bands
CURVES = ROOT / "results" / "published" / "learning_curves.json"
RESULTS = ROOT / "results" / "published" / "IN_A2S2KResNet_paper"


def result_maps(picture: Path) -> None:
    """Draw what the published run made of Indian Pines, as PNG."""
    shown = ("false colour", "ground truth", "classification", "errors")
    outcome = read_outcome(RESULTS)
    if outcome.false_colour is None:
        raise InputError(f"{RESULTS}: no false_color.png, which the picture shows")
    figure = maps(outcome, shown)
    write_file(picture, encoded(figure, "png", {"Software": None}))


def learning_curves(folder: Path) -> None:
    """Draw accuracies against the number of training pixels, as PNG and as PDF, for a paper."""
    points = read_points(CURVES).points
    for kind, content in encoded_curves(points).items():
        write_file(folder / f"learning_curves.{kind}", content)


def diagrams(folder: Path) -> None:
    """Draw both networks, the selective kernels and the EFR, each as PNG and as PDF."""
    a2s2k, ssrn = A2S2KResNet(PATCH[-1], CLASSES), SSRN(PATCH[-1], CLASSES)
    draw_network(a2s2k, "A2S2K-ResNet", PATCH, folder / "A2S2KResNet")
    draw_network(ssrn, "SSRN", PATCH, folder / "SSRN")
    draw_kernel_attention(a2s2k, PATCH, folder / "kernel_attention")
    draw_efr(a2s2k, PATCH, folder / "EFR")


def main(arguments: list[str] | None = None) -> int:
    """Draw all of them; return the exit status."""
    parser = OneLineParser(
        prog="make_figures.py", description="Draw the pictures of the documentation."
    )

    def work() -> None:
        parser.parse_args(arguments)
        result_maps(ROOT / "figs" / "IN_maps.png")
        learning_curves(ROOT / "figs")
        diagrams(ROOT / "figs")

    return run_program(parser.prog, work, interrupted="")


if __name__ == "__main__":
    sys.exit(main())
