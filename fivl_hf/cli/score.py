"""``fivl score`` and ``fivl compare``: evaluations computed from their answers, without a model."""

import argparse
from pathlib import Path
from typing import Any

from fivl_hf.cli.chat_options import add_budget, chat_settings, usage_line
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
    parser.add_argument(
        "answers",
        metavar="ANSWERS",
        type=Path,
        help="output folder of fivl evaluate, or its answers alone: .jsonl, .parquet",
    )
    parser.add_argument(
        "--scorer",
        default=None,
        help="exact, contains, gqa, vqa, rouge, bleu, pope-llava, pope-lmms-eval, pope-vlmevalkit, or a language model "
        "as a judge, such as judge:gpt-4o; that of reliance.json if not given",
    )
    parser.add_argument(
        "--fill",
        choices=("black", "mean", "blur", "inpaint"),
        default=None,
        help="the score and its control are of the evidence removed by this fill; that of reliance.json, or black",
    )
    parser.add_argument(
        "--scope",
        choices=("evidence", "all"),
        default=None,
        help="the score is about questions with evidence, or all, where those without count as unchanged; that of "
        "reliance.json, or evidence",
    )
    parser.add_argument("--seed", type=count, default=None, help="of the bootstrap; that of reliance.json, or 0")
    parser.add_argument(
        "--resamples", type=positive, default=None, help="bootstrap resamples of the images; as recorded, or 10,000"
    )
    parser.add_argument(
        "--output", type=Path, default=None, help="file to write; reliance.json of the folder if not given"
    )
    group = parser.add_argument_group("judge (OpenAI-compatible; the key comes from OPENAI_API_KEY)")
    group.add_argument("--endpoint", metavar="URL", default=None, help="where the judge is; OpenAI if not given")
    group.add_argument("--batch-api", action="store_true", help="ask it by OpenAI's Batch API, at half the price")
    add_budget(group, concurrency=16)
    parser.set_defaults(run=_score)


def add_compare(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "compare",
        help="evaluations of several models on the same questions: differences and whether they are chance",
        description="Compares accuracy (mid-p McNemar; a permutation if some images have several questions) and Visual "
        "Reliance Score (a permutation of the models' answers, image by image) on the questions with evidence that all "
        "models answered; p-values are adjusted by Holm.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "folders", metavar="FOLDER", type=existing_folder, nargs="+", help="output folders of fivl evaluate"
    )
    parser.add_argument(
        "--scorer", default=None, help="score all answers by this one; each by that of its reliance.json if not given"
    )
    parser.add_argument("--output", type=folder, default=Path(), help="folder for comparison.json and comparison.png")
    parser.add_argument("--seed", type=count, default=0, help="of permutations and bootstrap")
    parser.set_defaults(run=_compare)


def _score(options: argparse.Namespace) -> None:
    from fivl_hf.cli.evaluate import table_lines
    from fivl_hf.evaluation.results import score_again

    if not options.answers.exists():
        raise FileNotFoundError(f"{options.answers} does not exist")
    judge = _judge(options)
    try:
        summary = score_again(
            options.answers,
            scorer_name=options.scorer,
            judge=judge,
            output=options.output,
            **{name: getattr(options, name) for name in ("fill", "scope", "seed", "resamples")},
        )
    finally:
        if judge:
            print(usage_line(judge.spent, judge.settings))
    if not_judged := summary.get("not_judged"):
        reasons = ", ".join(f"{count:,} × {reason}" for reason, count in not_judged.items())
        print(f"{sum(not_judged.values()):,} answers got no verdict ({reasons}); run it again to ask once more")
    for line in table_lines(summary):
        print(line)


def _judge(options: argparse.Namespace) -> Any:
    """Return what asks the judge that the scorer's name means, None if it means another scorer."""
    from fivl_hf.evaluation.judge import VERDICTS, is_judge
    from fivl_hf.evaluation.scorers import JUDGE, scorer
    from fivl_hf.llm.many import ManyRequests

    if not options.scorer or not is_judge(options.scorer):
        if options.scorer:
            scorer(options.scorer)
        return None
    options.model = options.scorer.removeprefix(JUDGE)
    settings = chat_settings(options, base_url=options.endpoint)
    folder = options.answers if options.answers.is_dir() else options.answers.parent
    return ManyRequests(settings, folder / VERDICTS, batch_api=options.batch_api)


def _compare(options: argparse.Namespace) -> None:
    from fivl_hf.evaluation.comparison import compare, comparison_figure, comparison_lines, read_evaluated
    from fivl_hf.files.atomic import write_json

    evaluated = read_evaluated(options.folders, options.scorer)
    result = compare(evaluated, seed=options.seed)
    for line in comparison_lines(result):
        print(line)
    options.output.mkdir(parents=True, exist_ok=True)
    write_json(options.output / "comparison.json", result)
    picture = options.output / "comparison.png"
    picture.unlink(missing_ok=True)
    if figure := comparison_figure(result):
        figure.savefig(picture, dpi=150)
    print(f"comparison.json is in {options.output}")
