"""``fivl show``."""

import argparse
from pathlib import Path
from typing import Any

from fivl_hf.cli.options import HelpFormatter, count, positive, shown_name
from fivl_hf.cli.page_options import add_page, announce, require_gradio

__all__ = ["add_show"]


def add_show(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "show",
        help="draw rows of a dataset: masks, boxes, expressions in the same colours",
        description="Draws rows as a page, or as pictures: the image with its masks and boxes, the conversation with "
        "the expressions in their masks' colours, and how much of the image each mask covers.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("dataset", metavar="DATASET", help="folder or Hub id")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--row", type=count, default=None, help="this row, counted from 0")
    which.add_argument("--id", default=None, help="the row of this id")
    which.add_argument("--sample", type=positive, default=12, help="number of rows, drawn at random")
    parser.add_argument("--seed", type=count, default=0, help="of the draw")
    parser.add_argument("--split", default=None, help="the first one if not given")
    parser.add_argument("--dataset-config", default=None, help="the dataset's configuration")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("rows.html"),
        help="a page (.html), or a picture (.png or .jpg) with one row below the other",
    )
    parser.add_argument(
        "--browse",
        action="store_true",
        help="serve a page to search, filter and sort all rows, however many, instead of drawing some (--host, --port "
        "and --open are for it, --sample, --seed and --output are not)",
    )
    add_page(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from fivl_hf.show.row_pages import choose_rows, write_rows
    from fivl_hf.storage import load_rows, split_names

    names = [options.split] if options.split else split_names(options.dataset, options.dataset_config)
    split, others = names[0], names[1:]
    if options.browse:
        if options.row is not None or options.id is not None:
            raise ValueError("--row and --id are for a page of some rows; search for the id on the page of --browse")
        _browse(options, split)
        return
    rows = load_rows(options.dataset, split, options.dataset_config)
    chosen = choose_rows(rows, row=options.row, id=options.id, sample=options.sample, seed=options.seed)
    usable = write_rows(options.output, chosen, f"{options.dataset}, {split}: {len(chosen)} of {len(rows):,} rows")
    more = f"; --split draws {' or '.join(others)}" if others else ""
    if usable:
        print(usable)
    are = "is" if len(chosen) == 1 else "are"
    print(f"{len(chosen)} of {len(rows):,} rows of split {split} {are} drawn in {options.output}{more}")


def _browse(options: argparse.Namespace, split: str) -> None:
    require_gradio()
    from fivl_hf.show.gradio_pages import serve
    from fivl_hf.show.row_browser import RowBrowser, browser_page
    from fivl_hf.storage.parquet_files import ParquetRows, split_files

    rows = ParquetRows(split_files(options.dataset, split, options.dataset_config))
    title = f"{shown_name(options.dataset)}, {split}"
    serve(
        browser_page(RowBrowser(rows, title)),
        "browse.css",
        host=options.host,
        port=options.port,
        on_ready=lambda address: announce({"rows": address}, options),
    )
