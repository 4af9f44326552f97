"""Test weights of SSRN that its authors released, on the pixels that they tested on.

A checkpoint in Keras's form (``models/`` of github.com/zilongzhong/SSRN), of the first author's
later code (``pretrained_models/`` of github.com/zilongzhong/SSTN), or in the form of the
A2S2K-ResNet paper's comparison; see `checkpoint_file`.  Each is tested with the preprocessing,
patch width and split of the code that trained it; where the split is not known, on all labelled
pixels.  The results directory is one like any other, and its ``run_0/weights.pt`` are weights for
``--weights`` of the form's own script.
Run this file: ``python released.py Indian_best_RES_3D_SS4_10_1.hdf5 -d IN``.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any folder
from common.scenes.scene import describe_files
from common.scenes.scene_file import SCENES, scene_name
from common.settings import Settings
from common.system import process
from common.system.errors import OneLineParser, run_program
from common.system.files import check_is_file
from common.system.flags import check_device, file_name
from common.system.memory import told_if_memory_is_short
from common.system.provenance import typed_command


def build_parser() -> OneLineParser:
    """Build the parser; its destinations are fields of `Settings`."""
    parser = OneLineParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("weights", type=file_name, metavar="FILE", help="the checkpoint: .hdf5, .pth or .pt")
    scenes = ", ".join(SCENES)
    add("-d", "--dataset", type=scene_name, default="IN", help=f"{scenes} or a .yaml file")
    add("--data-dir", type=file_name, help=f"where {scenes} lie, else $HSI_DATA_DIR, else dataset/")
    add("--out", type=file_name, help="results directory, else results/<form>_<scene>_<time>")
    add("--overwrite", action="store_true", help="replace the results in --out")
    choices = ["labelled", "all", "none"]
    add("--map", choices=choices, default="labelled", help="which pixels the map classifies")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = build_parser()

    def work() -> None:
        settings = Settings(model="SSRN", **vars(parser.parse_args(arguments)))
        check_device(settings.device, here=True)
        check_is_file(Path(settings.weights))
        describe_files(settings.dataset, settings.data_dir)
        with told_if_memory_is_short():
            from SSRN.released_weights import test_released  # PyTorch takes seconds to load

            test_released(settings)

    return run_program(parser.prog, work, f"; start again with: {typed_command()}")


if __name__ == "__main__":
    process.set_up()
    sys.exit(main())
