"""``fivl report``."""

import argparse
from typing import Any

from fivl_hf.cli.options import HelpFormatter, count, existing_folder, positive

__all__ = ["add_report"]


def add_report(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "report",
        help="an evaluation or an explanation as a page",
        description="Writes report.html into the output folder of fivl evaluate: its numbers, and every question with "
        "its images and answers; or of fivl explain: its heads, measures and pictures (heads.html where both wrote). "
        "It needs no server and no network; if the images are large, they are beside it. No model is loaded.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "folder", metavar="FOLDER", type=existing_folder, help="output folder of fivl evaluate or fivl explain"
    )
    parser.add_argument(
        "--dataset", default=None, help="folder or Hub id of the rows, if it has moved since they were asked about"
    )
    parser.add_argument("--no-images", action="store_true", help="show questions and answers alone")
    parser.add_argument(
        "--questions",
        type=positive,
        default=5_000,
        help="most questions to show; if there are more, a random sample of this size",
    )
    parser.add_argument("--image-side", type=positive, default=224, help="longest side of the images, in pixels")
    parser.add_argument("--seed", type=count, default=0, help="of that sample")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from fivl_hf.explain.folders import EXPLANATION, KNOCKOUT
    from fivl_hf.explain.report import write_heads_report

    explained = (options.folder / EXPLANATION).exists()
    if not explained and not (options.folder / "reliance.json").exists() and (options.folder / KNOCKOUT).exists():
        raise FileNotFoundError(f"{options.folder} holds a knock-out alone: run fivl explain into it, too")
    if explained:
        print(f"the page is {write_heads_report(options.folder)}")
    if not explained or (options.folder / "reliance.json").exists():
        _report_evaluation(options)


def _report_evaluation(options: argparse.Namespace) -> None:
    from fivl_hf.evaluation.report import finished_evaluation, write_report
    from fivl_hf.storage import load_rows

    about = finished_evaluation(options.folder)
    dataset = options.dataset or about.get("dataset")
    rows = None
    if dataset and not options.no_images:
        try:
            rows = load_rows(dataset, about["split"], about.get("dataset_config"))
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error}; or say --no-images") from error
    path = write_report(options.folder, rows, questions=options.questions, side=options.image_side, seed=options.seed)
    print(f"the page is {path}")
