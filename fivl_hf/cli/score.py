"""``fivl score`` and ``fivl compare``: evaluations computed from their answers, without a model."""

import argparse
from typing import Any

from fivl_hf.cli.options import HelpFormatter, count, existing_folder, folder, positive

__all__ = ["add_compare", "add_score"]


def add_score(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "score",
        help="the numbers of an evaluation from its answers, also by another scorer",
        description="Computes reliance.json again from answers.jsonl. No model is loaded.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("folder", metavar="FOLDER", type=existing_folder, help="output folder of fivl evaluate")
    parser.add_argument(
        "--scorer",
        default=None,
        help="exact, contains, gqa, vqa, rouge, bleu, pope-llava, pope-lmms-eval, pope-vlmevalkit; that of "
        "reliance.json if not given",
    )
    parser.add_argument("--seed", type=count, default=0, help="of the bootstrap")
    parser.add_argument("--resamples", type=positive, default=10_000, help="bootstrap resamples of the images")
    parser.set_defaults(run=_score)


def add_compare(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "compare",
        help="evaluations of several models on the same questions: differences and whether they are chance",
        description="Compares accuracy (mid-p McNemar) and Visual Reliance Score (permutation of the models' answers, "
        "image by image) on the questions with evidence that all models answered; p-values are adjusted by Holm.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "folders", metavar="FOLDER", type=existing_folder, nargs="+", help="output folders of fivl evaluate"
    )
    parser.add_argument(
        "--scorer", default=None, help="score all answers by this one; each by that of its reliance.json if not given"
    )
    parser.add_argument(
        "--output", type=folder, default=None, help="folder for comparison.json and comparison.png; none if not given"
    )
    parser.add_argument("--seed", type=count, default=0, help="of permutations and bootstrap")
    parser.set_defaults(run=_compare)


def _score(options: argparse.Namespace) -> None:
    from fivl_hf.cli.evaluate import table_lines
    from fivl_hf.evaluation.results import score_again

    summary = score_again(options.folder, scorer_name=options.scorer, seed=options.seed, resamples=options.resamples)
    for line in table_lines(summary):
        print(line)
    print(f"reliance.json is in {options.folder}")


def _compare(options: argparse.Namespace) -> None:
    from fivl_hf.evaluation.comparison import compare, comparison_figure, comparison_lines, read_evaluated
    from fivl_hf.files.atomic import write_json

    evaluated = read_evaluated(options.folders, options.scorer)
    result = compare(evaluated, seed=options.seed)
    for line in comparison_lines(result):
        print(line)
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        write_json(options.output / "comparison.json", result)
        picture = options.output / "comparison.png"
        picture.unlink(missing_ok=True)
        if figure := comparison_figure(result):
            figure.savefig(picture, dpi=150)
