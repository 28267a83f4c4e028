"""``fivl convert``."""

import argparse
from typing import Any

from fivl_hf.cli.options import ExamplesHelpFormatter, folder

__all__ = ["add_convert"]

_EXAMPLES = """\
examples:
  fivl convert Intel/fivl-vm fivl-vm                # the paper's model
  fivl convert liuhaotian/llava-v1.5-7b llava-7b    # its baseline
  fivl evaluate --model fivl-vm --dataset fivl-pope --output reliance"""


def add_convert(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "convert",
        help="a checkpoint of LLaVA's own code, such as the paper's, made loadable",
        description="Converts a LLaVA-1.5 checkpoint of its authors' code (LlavaLlamaForCausalLM, with mm_projector "
        "inside) to a folder that transformers, and so every other command, loads. Images are padded to a square, as "
        "such models were trained.",
        epilog=_EXAMPLES,
        formatter_class=ExamplesHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE", help="the checkpoint: folder or Hub id")
    parser.add_argument("output", metavar="OUTPUT", type=folder, help="folder for the converted model")
    parser.add_argument("--vision", default=None, help="vision tower: folder or Hub id; the config's if not given")
    parser.add_argument("--dtype", default="auto", help="of the converted weights; the checkpoint's own by default")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from fivl_hf.llava.original import convert_llava
    from fivl_hf.models import torch_dtype

    dtype = None if options.dtype == "auto" else torch_dtype(options.dtype)
    convert_llava(options.source, options.output, vision=options.vision, dtype=dtype)
    print(f"the model is in {options.output}")
