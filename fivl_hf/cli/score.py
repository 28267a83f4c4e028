"""``fivl score`` and ``fivl compare``: the numbers of evaluations from their answers, without the evaluated model."""

import argparse
from pathlib import Path
from typing import Any

from fivl_hf.cli.chat_options import add_budget, chat_settings, usage_line
from fivl_hf.cli.options import HelpFormatter, count, existing_folder, folder, positive
from fivl_hf.supervision import listed_reasons

__all__ = ["add_compare", "add_score"]

# As in fivl_hf.evaluation.conditions, which is not imported for --help.
_FILLS = ("black", "mean", "blur", "inpaint")


def add_score(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "score",
        help="the numbers of an evaluation from its answers, also by another scorer",
        description="Computes the numbers of an evaluation again from its answers. The evaluated model is not needed; "
        "--scorer judge:MODEL asks a language model.",
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
        choices=_FILLS,
        default=None,
        help="fill of the conditions that the score and its control are computed from; that of reliance.json, or black",
    )
    parser.add_argument(
        "--scope",
        choices=("evidence", "all"),
        default=None,
        help="questions that the score is about: those with evidence, or all (those without count as unchanged); that "
        "of reliance.json, or evidence",
    )
    parser.add_argument("--seed", type=count, default=None, help="of the bootstrap; that of reliance.json, or 0")
    parser.add_argument(
        "--resamples", type=positive, default=None, help="bootstrap resamples of the images; as recorded, or 10,000"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=None,
        help="file to write; by default reliance.json in the folder, or NAME.reliance.json beside the file",
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
    parser.add_argument(
        "--fill",
        choices=_FILLS,
        default=None,
        help="fill of the removed evidence; that of each reliance.json if not given",
    )
    parser.add_argument("--output", type=folder, default=Path(), help="folder for comparison.json and comparison.png")
    parser.add_argument("--seed", type=count, default=0, help="of permutations and bootstrap")
    parser.set_defaults(run=_compare)


def _score(options: argparse.Namespace) -> None:
    from fivl_hf.cli.evaluate import table_lines
    from fivl_hf.evaluation.results import score_again, summary_file

    written = options.output or summary_file(options.answers)
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
        print(f"answers without a verdict: {listed_reasons(not_judged)}; run the command again to ask about them")
    for line in table_lines(summary):
        print(line)
    print(f"written to {written}")


def _judge(options: argparse.Namespace) -> Any:
    """Return the requests to the judge that --scorer names; None for another scorer."""
    from fivl_hf.evaluation.judge import VERDICTS
    from fivl_hf.evaluation.scorers import judge_model, scorer
    from fivl_hf.llm.many import ManyRequests

    model = judge_model(options.scorer) if options.scorer else None
    if model is None:
        if options.scorer:
            scorer(options.scorer)
        return None
    options.model = model  # What other commands have as --model, which chat_settings reads.
    settings = chat_settings(options, base_url=options.endpoint)
    folder = options.answers if options.answers.is_dir() else options.answers.parent
    return ManyRequests(settings, folder / VERDICTS, batch_api=options.batch_api)


def _compare(options: argparse.Namespace) -> None:
    from fivl_hf.evaluation.comparison import compare, comparison_figure, comparison_lines, read_evaluated
    from fivl_hf.files.atomic import write_json

    evaluated = read_evaluated(options.folders, options.scorer, fill=options.fill)
    result = compare(evaluated, seed=options.seed)
    for line in comparison_lines(result):
        print(line)
    options.output.mkdir(parents=True, exist_ok=True)
    write_json(options.output / "comparison.json", result)
    plot = options.output / "comparison.png"
    plot.unlink(missing_ok=True)
    if figure := comparison_figure(result):
        figure.savefig(plot, dpi=150)
    print(f"comparison.json is in {options.output}")
