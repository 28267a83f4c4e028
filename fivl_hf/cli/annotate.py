"""``fivl annotate``."""

import argparse
import csv
from pathlib import Path
from typing import Any

from fivl_hf.cli.options import HelpFormatter, count, existing_file, folder, positive, shown_name, word
from fivl_hf.cli.page_options import add_page, announce, require_gradio

__all__ = ["add_annotate"]


def add_annotate(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "annotate",
        help="serve a page on which people rate key expressions and masks",
        description="Serves a page that shows one key expression at a time, with its mask, and asks the three "
        "questions of the paper's annotators; masks, boxes and words can be fixed. Every answer is written at once: "
        "stop it and start it again as you like, it goes on where each annotator stopped.",
        epilog="Each annotator has a link of their own and does not see what the others say. Writes "
        "OUTPUT/annotators/NAME.jsonl; fivl agreement makes figures of them, fivl filter a cleaned dataset. "
        "",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("dataset", metavar="DATASET", help="folder or Hub id")
    parser.add_argument(
        "--annotator", action="append", required=True, metavar="NAME", type=word, help="who annotates; can be repeated"
    )
    parser.add_argument("--split", default="train", help="split, slices allowed: train[:2000]")
    parser.add_argument("--dataset-config", default=None, help="the dataset's configuration")
    parser.add_argument("--output", type=folder, default=Path("annotations"), help="folder of the study")
    parser.add_argument("--sample", type=positive, default=200, help="how many key expressions")
    parser.add_argument(
        "--strategy",
        choices=("random", "stratified", "disagreement"),
        default="random",
        help="stratified: as many of each mask size and source; disagreement: those the judge speaks against, first",
    )
    parser.add_argument(
        "--judgements", type=existing_file, default=None, help="judgements.jsonl of fivl judge, for disagreement"
    )
    parser.add_argument(
        "--gold",
        type=existing_file,
        default=None,
        help="annotations of an expert (annotators/NAME.jsonl): their items are mixed in, asked of everyone, and show "
        "how often each annotator agrees with the expert",
    )
    parser.add_argument("--per-item", type=positive, default=None, help="annotators of each item; all if not given")
    parser.add_argument("--seed", type=count, default=0, help="seed of the draw")
    parser.add_argument("--share-file", type=Path, default=None, help="write everyone's link here (CSV: name, link)")
    add_page(parser)
    parser.add_argument("--restart", action="store_true", help="draw the items again; annotations are kept")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from functools import partial

    from tqdm.auto import tqdm

    from fivl_hf.annotation.items import draw_items, judge_verdicts
    from fivl_hf.annotation.study import gold_items, open_study, require_annotator_name
    from fivl_hf.files.fingerprints import exact_digest
    from fivl_hf.storage import load_rows

    require_gradio()
    for name in options.annotator:
        require_annotator_name(name)
    if (options.strategy == "disagreement") != bool(options.judgements):
        raise ValueError("--strategy disagreement and --judgements must be given together")
    rows = load_rows(options.dataset, options.split, options.dataset_config)

    def draw() -> list[Any]:
        items = draw_items(
            rows,
            sample=options.sample,
            strategy=options.strategy,
            seed=options.seed,
            verdicts=judge_verdicts(options.judgements) if options.judgements else None,
            progress=partial(tqdm, desc="draw", unit="expression"),
            on_skip=lambda reason: print(f"left out: {reason}"),
        )
        return gold_items(rows, items, options.gold) if options.gold else items

    run = {
        "dataset": options.dataset,
        "dataset_config": options.dataset_config,
        "split": options.split,
        "sample": options.sample,
        "strategy": options.strategy,
        "seed": options.seed,
        "judgements": exact_digest([options.judgements]) if options.judgements else None,
        "gold": exact_digest([options.gold]) if options.gold else None,
    }
    study = open_study(
        options.output,
        rows,
        run,
        draw=draw,
        annotators=options.annotator,
        per_item=options.per_item,
        gold=options.gold,
        restart=options.restart,
    )
    with study as opened:
        _serve(opened, rows, options)


def _serve(study: Any, rows: Any, options: argparse.Namespace) -> None:
    """Serve the page until it is interrupted."""
    from fivl_hf.annotation.page import annotation_page
    from fivl_hf.show.gradio_pages import serve

    if study.changed:
        print(f"the dataset has changed: {len(study.changed)} items were removed or look different, and are skipped")

    def on_ready(address: str) -> None:
        links = {name: f"{address}?key={study.links[name]}" for name in options.annotator}
        if options.share_file:
            with options.share_file.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([("name", "link"), *links.items()])
        announce(links, options)

    page = annotation_page(study, rows, shown_name(options.dataset))
    serve(page, "annotate.css", host=options.host, port=options.port, on_ready=on_ready)
