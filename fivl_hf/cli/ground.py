"""``fivl ground``."""

import argparse
from pathlib import Path
from typing import Any

from fivl_hf.cli.options import HelpFormatter, existing_file, head_position, word

__all__ = ["add_ground"]


def add_ground(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "ground",
        help="where a model looks while it writes a phrase, as a box",
        description="Draws the box at which a model's localization heads look while it writes a phrase: grounding by "
        "attention, without training.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="model folder or Hub id")
    parser.add_argument("image", metavar="IMAGE", type=existing_file, help="image file")
    parser.add_argument("phrase", metavar="PHRASE", type=word, help='such as "the red ring"')
    parser.add_argument(
        "--heads",
        type=head_position,
        nargs="+",
        default=None,
        metavar="LAYER,HEAD",
        help="heads to look at, such as the best ones that fivl explain found; those whose attention is concentrated "
        "on one spot of this image if not given",
    )
    parser.add_argument("--output", type=Path, default=Path("grounded.png"), help="picture to write")
    parser.add_argument("--device", default=None, help="such as cuda or cpu; an accelerator if there is one")
    parser.add_argument("--dtype", default="auto", help="such as bfloat16; the checkpoint's own by default")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from fivl_hf.explain.grounding import ground
    from fivl_hf.images import ImageError, open_rgb
    from fivl_hf.models import load_model
    from fivl_hf.show.drawing import frame_boxes

    if not options.output.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {options.output.parent} to write {options.output.name} to")
    try:
        image = open_rgb({"path": str(options.image), "bytes": options.image.read_bytes()})
    except ImageError as error:
        raise ValueError(f"{options.image} is {error}") from error
    model, processor = load_model(options.model, device=options.device, dtype=options.dtype)
    found = ground(model, processor, image, options.phrase, options.heads)
    heads = ", ".join(f"layer {layer} head {head}" for layer, head in found.heads)
    if found.box is None:
        print(f"{options.phrase}: the attention of {heads} is even over the image")
        return
    frame_boxes(image, [found.box], side=max(480, *image.size)).save(options.output)
    print(f"{options.phrase}: {', '.join(f'{edge:.0f}' for edge in found.box)} (x0, y0, x1, y1), by {heads}")
    print(f"{options.output} shows it")
