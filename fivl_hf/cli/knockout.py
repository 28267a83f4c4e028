"""``fivl knockout``."""

import argparse
from typing import Any

from fivl_hf.cli.options import HelpFormatter, add_model_and_rows, count, loaded, positive

__all__ = ["add_knockout"]


def add_knockout(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "knockout",
        help="do the heads that look at the evidence matter? knock them out, beside random ones",
        description="Chooses attention heads by AUROC on half of the images, knocks out 1, 2, 4, ... of them on the "
        "other half, and compares the drop in log-probability of the key expressions with that for random sets of "
        "heads of the same layers that attend to the image about equally.",
        epilog="Writes knockout.json, knockout.png and knockout.jsonl (every set's effect, as it comes); in a folder "
        "of fivl explain with the same model and rows, it is added to explanation.json and report.html, too. If it is "
        "interrupted, run it again to resume. accelerate launch -m fivl_hf knockout ... spreads the sets of heads over "
        "several GPUs.",
        formatter_class=HelpFormatter,
    )
    add_model_and_rows(parser)
    parser.add_argument(
        "--how",
        choices=("zero", "mean", "edges"),
        default="zero",
        help="a head's output is 0, or its mean, or it does not see the image (edges)",
    )
    parser.add_argument(
        "--sizes", type=sizes, default=None, metavar="K,K,...", help="numbers of heads; 1,2,4,...,64 if not given"
    )
    parser.add_argument(
        "--window",
        type=positive,
        default=None,
        metavar="LAYERS",
        help="also knock out all heads of every LAYERS consecutive layers",
    )
    parser.add_argument(
        "--max-rows",
        type=positive,
        default=200,
        help="largest number of rows to choose heads on, and to measure on; every set of heads is run over the latter",
    )
    parser.add_argument("--batch-size", type=positive, default=16, help="rows at a time")
    parser.add_argument("--draws", type=positive, default=20, help="random sets for each number of heads")
    parser.add_argument("--seed", type=count, default=0, help="of the halves of the images and the random sets")
    parser.set_defaults(run=_run)


def sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(sorted({positive(part) for part in text.split(",")}))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"whole numbers such as 1,2,4, got {text!r}") from error


def _run(options: argparse.Namespace) -> None:
    from fivl_hf.explain.folders import EXPLANATION, explanation_in
    from fivl_hf.explain.knockout_runner import curve_lines, write_knockout
    from fivl_hf.explain.report import page_in

    with loaded(options) as (model, processor, rows, about):
        result = write_knockout(
            model,
            processor,
            rows,
            options.output,
            how=options.how,
            sizes=options.sizes,
            draws=options.draws,
            seed=options.seed,
            window=options.window,
            max_rows=options.max_rows,
            batch_size=options.batch_size,
            about=about,
            restart=options.restart,
        )
    print("\n".join(curve_lines(result)))
    print("differences are drops of expressions beyond other tokens; p is by their rank among the random sets'")
    print(f"knockout.json and knockout.png are in {options.output}")
    if "knockout" in explanation_in(options.output):
        print(f"the page is {page_in(options.output)}")
    elif (options.output / EXPLANATION).exists():
        print(f"the explanation in {options.output} is of other rows or another model: its page does not have it")
