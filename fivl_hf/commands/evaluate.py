"""``fivl evaluate``."""

import argparse
import json
from typing import Any

from fivl_hf.commands.options import HelpFormatter, add_model_and_rows, count, positive

__all__ = ["add_evaluate"]


def add_evaluate(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "evaluate",
        help="visual reliance of a model: accuracy with and without the evidence",
        description="Asks every question on the original image, with the evidence blacked out, and with random boxes "
        "of the same sizes blacked out; reports accuracies and the Visual Reliance Score with confidence intervals.",
        epilog="Writes reliance.json (the summary) and answers.jsonl (every question with its three answers).",
        formatter_class=HelpFormatter,
    )
    add_model_and_rows(parser)
    parser.add_argument("--turns", choices=("first", "all"), default="first", help="which questions of a conversation")
    parser.add_argument("--batch-size", type=positive, default=16, help="questions per batch")
    parser.add_argument("--max-new-tokens", type=positive, default=32, help="longest answer")
    parser.add_argument("--seed", type=count, default=0, help="of the random boxes and the bootstrap")
    parser.add_argument("--resamples", type=positive, default=1000, help="bootstrap resamples")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from fivl_hf.evaluation.runner import evaluate_reliance, write_answers
    from fivl_hf.models import load_model
    from fivl_hf.storage import load_rows

    rows = load_rows(options.dataset, options.split, options.dataset_config)
    model, processor = load_model(options.model, device=options.device, dtype=options.dtype)
    summary, answered = evaluate_reliance(
        model,
        processor,
        rows,
        turns=options.turns,
        batch_size=options.batch_size,
        max_new_tokens=options.max_new_tokens,
        seed=options.seed,
        resamples=options.resamples,
    )
    options.output.mkdir(parents=True, exist_ok=True)
    write_answers(options.output / "answers.jsonl", answered)
    asked = {"model": str(options.model), "dataset": str(options.dataset), "split": options.split}
    text = json.dumps({**asked, **summary}, indent=2)
    (options.output / "reliance.json").write_text(text + "\n", encoding="utf-8")
    print(text)
