"""``fivl explore``."""

import argparse
from typing import Any

from fivl_hf.cli.options import HelpFormatter, count, head_position, shown_name
from fivl_hf.cli.page_options import add_page, announce, require_gradio

__all__ = ["add_explore"]


def add_explore(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "explore",
        help="ask a model about images, and see where it looks and what it knows, on a page",
        description="Serves a page: ask about an image of the dataset or one of your own; click a word of the answer "
        "to see the attention behind it, click a patch to see what it predicts, drag a box to black it out, keep only "
        "it or blur it, and compare with random boxes. Two models can stand side by side.",
        epilog="Of --examples questions, two are marked: one whose answer is lost without its evidence, and one whose "
        "answer stays. fivl push explorer makes a Space of the page.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="model folder or Hub id")
    parser.add_argument("dataset", metavar="DATASET", help="row dataset: folder or Hub id")
    parser.add_argument("--compare", default=None, metavar="MODEL", help="another model, shown beside the first")
    parser.add_argument("--split", default="test", help="split, slices allowed: test[:200]")
    parser.add_argument("--dataset-config", default=None, help="the dataset's configuration")
    parser.add_argument("--examples", type=count, default=12, help="questions of the dataset to begin with")
    parser.add_argument("--seed", type=count, default=0, help="of their draw")
    parser.add_argument(
        "--head",
        type=head_position,
        default=None,
        metavar="LAYER,HEAD",
        help="whose attention is shown first; the one that agrees best with the examples' masks if not given",
    )
    parser.add_argument("--device", default=None, help="such as cuda or cpu; an accelerator if there is one")
    parser.add_argument("--dtype", default="auto", help="such as bfloat16; the checkpoint's own by default")
    add_page(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    require_gradio()
    from fivl_hf.explore.start import open_explorer
    from fivl_hf.models import existing_folder
    from fivl_hf.show.gradio_pages import serve

    for model in filter(None, (options.model, options.compare)):
        existing_folder(model, "model")
    page = open_explorer(
        [options.model, *([options.compare] if options.compare else [])],
        options.dataset,
        split=options.split,
        config=options.dataset_config,
        examples=options.examples,
        head=options.head,
        seed=options.seed,
        device=options.device,
        dtype=options.dtype,
    )
    serve(
        page,
        "explore.css",
        host=options.host,
        port=options.port,
        on_ready=lambda address: announce({shown_name(options.model): address}, options),
    )
