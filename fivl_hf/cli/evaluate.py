"""``fivl evaluate``."""

import argparse
from collections.abc import Mapping
from typing import Any

from fivl_hf.cli.chat_options import add_budget, usage_line
from fivl_hf.cli.options import HelpFormatter, add_model_and_rows, count, positive

__all__ = ["add_evaluate", "table_lines"]


def add_evaluate(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "evaluate",
        help="visual reliance of a model: accuracy with and without the evidence",
        description="Asks every question on the original image, with the evidence blacked out, and with random boxes "
        "of the same sizes blacked out, or under other conditions; reports accuracies and the Visual Reliance Score, "
        "with confidence intervals over images.",
        epilog="Writes answers.jsonl (a line per question and condition, as the answers come) and reliance.json (the "
        "summary). If it is interrupted, run it again to resume; fivl score computes the summary again, fivl compare "
        "compares models. Conditions: original, removed (black), removed-mean, removed-blur, random (boxes of the same "
        "sizes), other (evidence of other questions about the image), kept (all but the evidence is black), blank "
        "(grey), text-only.",
        formatter_class=HelpFormatter,
    )
    add_model_and_rows(parser)
    parser.add_argument(
        "--conditions",
        type=lambda text: tuple(name.strip() for name in text.split(",")),
        default="original,removed,random",
        metavar="NAME,NAME,...",
        help="what to ask under; see below",
    )
    parser.add_argument(
        "--scorer",
        default=None,
        help="exact, contains, gqa, vqa, pope-llava, pope-lmms-eval or pope-vlmevalkit; the benchmark's own, or exact, "
        "if not given",
    )
    parser.add_argument(
        "--prompt-suffix", default=None, help="added to every question; the benchmark's own, or nothing, if not given"
    )
    parser.add_argument("--turns", choices=("first", "all"), default="first", help="which questions of a conversation")
    parser.add_argument("--batch-size", type=positive, default=16, help="questions per batch")
    parser.add_argument("--max-new-tokens", type=positive, default=32, help="longest answer")
    parser.add_argument("--seed", type=count, default=0, help="of the random boxes and the bootstrap")
    parser.add_argument("--resamples", type=positive, default=10_000, help="bootstrap resamples of the images")
    group = parser.add_argument_group("endpoint (OpenAI-compatible; the key comes from OPENAI_API_KEY)")
    group.add_argument(
        "--endpoint",
        metavar="URL",
        default=None,
        help="ask --model there, such as https://api.openai.com/v1 or http://localhost:8000/v1 (vLLM)",
    )
    group.add_argument("--image-side", type=positive, default=None, help="longest side of the images that are sent")
    add_budget(group, concurrency=16)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from fivl_hf.evaluation.conditions import require_conditions
    from fivl_hf.evaluation.results import write_endpoint_evaluation, write_evaluation
    from fivl_hf.evaluation.scorers import scorer
    from fivl_hf.models import load_model
    from fivl_hf.storage import load_rows

    # Before anything is written.
    require_conditions(options.conditions)
    if options.scorer:
        scorer(options.scorer)
    rows = load_rows(options.dataset, options.split, options.dataset_config)
    asked: dict[str, Any] = {
        "model_name": options.model,
        "dataset": options.dataset,
        "split": options.split,
        "config": options.dataset_config,
        "conditions": options.conditions,
        "scorer_name": options.scorer,
        "prompt_suffix": options.prompt_suffix,
        "turns": options.turns,
        "max_new_tokens": options.max_new_tokens,
        "seed": options.seed,
        "resamples": options.resamples,
        "restart": options.restart,
    }
    if options.endpoint is None:
        summary = write_evaluation(
            lambda: load_model(options.model, device=options.device, dtype=options.dtype),
            rows,
            options.output,
            batch_size=options.batch_size,
            **asked,
        )
    else:
        answerer, settings = _endpoint(options)
        try:
            summary = write_endpoint_evaluation(answerer, rows, options.output, **asked)
        finally:
            print(usage_line(answerer.spent, settings))
        if unanswered := sum(answerer.failures.values()):
            reasons = ", ".join(f"{count:,} × {reason}" for reason, count in answerer.failures.items())
            print(f"{unanswered:,} questions got no answer ({reasons}); run it again to ask them once more")
    for line in table_lines(summary):
        print(line)
    print(f"answers.jsonl and reliance.json are in {options.output}")


def _endpoint(options: argparse.Namespace) -> tuple[Any, Any]:
    """Return what asks the endpoint, and its settings."""
    from fivl_hf.evaluation.endpoint import EndpointAnswerer
    from fivl_hf.llm.settings import ChatSettings

    settings = ChatSettings(
        model=options.model,
        base_url=options.endpoint,
        concurrency=options.concurrency,
        timeout=options.timeout,
        retries=options.retries,
        max_requests=options.max_requests,
        max_tokens=options.max_tokens,
        max_cost=options.max_cost,
        input_price=options.input_price,
        output_price=options.output_price,
        reply_tokens=options.max_new_tokens,
    )
    options.output.mkdir(parents=True, exist_ok=True)
    return EndpointAnswerer(settings, options.output / "answers.sqlite", image_side=options.image_side), settings


def table_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return the summary as a short table."""

    def number(value: float | None) -> str:
        return "    –" if value is None else f"{value:.3f}"

    def reliance(score: float | None, interval: Any) -> str:
        low, high = interval
        return number(score) + ("" if low is None else f"  [{low:.3f}, {high:.3f}]")

    evidence = reliance(summary["visual_reliance_score"], summary["confidence_interval"])
    control = reliance(summary["random_reliance_score"], summary["random_confidence_interval"])
    lines = [
        f"questions                         {summary['questions']:,}, {summary['n']:,} of them with evidence",
        f"accuracy on those with evidence   {number(summary['accuracy'])}",
        f"accuracy, evidence blacked out    {number(summary['masked_accuracy'])}",
        f"accuracy, random boxes            {number(summary['random_masked_accuracy'])}",
        f"Visual Reliance Score             {evidence}",
        f"the same with random boxes        {control}",
    ]
    for name, found in summary["conditions"].items():
        if name not in ("original", "removed", "random"):
            if not found["n"]:
                lines.append(f"{name}: {found['reason']}")
                continue
            lost = reliance(found["reliance"], found["confidence_interval"])
            lines.append(f"accuracy, {name:<22}  {number(found['accuracy'])}  lost: {lost}")
    answers = sum(found["n"] for found in summary["conditions"].values())
    unparsed = sum(found.get("unparsed", 0) for found in summary["conditions"].values())
    lines.append(
        f"scored by                         {summary['scoring']}; {unparsed:,} of {answers:,} answers, all conditions "
        "together, could not be read"
    )
    lines += [f"note: {summary[key]}" for key in ("random_note", "reason") if summary.get(key)]
    if len(summary["by_category"]) > 1:
        lines += ["", f"{'category':<32}  {'n':>7}  accuracy  reliance"]
        for name, found in summary["by_category"].items():
            shown = number(found["accuracy"]), number(found["visual_reliance_score"])
            lines.append(f"{name[:32] or '(none)':<32}  {found['n']:>7,}  {shown[0]:>8}  {shown[1]:>8}")
    return lines
