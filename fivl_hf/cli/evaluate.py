"""``fivl evaluate``."""

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fivl_hf.cli.chat_options import add_budget, chat_settings, usage_line
from fivl_hf.cli.options import HelpFormatter, add_model_and_rows, count, existing_file, head_position, number, positive
from fivl_hf.supervision import listed_reasons

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
        "compares models. Conditions: original, removed (black), random (boxes of the same sizes), other (evidence of "
        "other questions about the image), kept (all but the evidence is black), blank (grey), text-only; and, where "
        "something is black, other fills: removed-mean, removed-blur, removed-inpaint (by OpenCV), random-mean, ...",
        formatter_class=HelpFormatter,
    )
    add_model_and_rows(parser, model_required=False)
    parser.add_argument(
        "--protocol",
        choices=("default", "paper"),
        default="default",
        help="paper: black boxes on the evidence, boxes of the same sizes as the control, exact match",
    )
    parser.add_argument(
        "--conditions",
        type=lambda text: tuple(name.strip() for name in text.split(",")),
        default=None,
        metavar="NAME,NAME,...",
        help="what to ask under; see below; original,removed,random if not given",
    )
    parser.add_argument(
        "--scorer",
        default=None,
        help="exact, contains, gqa, vqa, rouge, bleu, pope-llava, pope-lmms-eval, pope-vlmevalkit; the "
        "benchmark's own, or exact, if not given",
    )
    parser.add_argument(
        "--prompt-suffix", default=None, help="added to every question; the benchmark's own, or nothing, if not given"
    )
    parser.add_argument("--turns", choices=("first", "all"), default="first", help="which questions of a conversation")
    parser.add_argument("--batch-size", type=positive, default=16, help="questions per batch")
    parser.add_argument("--max-new-tokens", type=positive, default=32, help="longest answer")
    parser.add_argument("--seed", type=count, default=0, help="of the random boxes and the bootstrap")
    parser.add_argument("--resamples", type=positive, default=10_000, help="bootstrap resamples of the images")
    parser.add_argument(
        "--evidence", choices=("boxes", "masks"), default="boxes", help="what is hidden or kept; boxes in the paper"
    )
    parser.add_argument("--dilation", type=number, default=0.0, help="pixels by which the evidence grows on each side")
    parser.add_argument(
        "--preview",
        type=positive,
        default=None,
        metavar="N",
        help="ask nothing: write preview.html with N questions' images under every condition",
    )
    _add_transformers(parser)
    _add_endpoint(parser)
    parser.add_argument_group("recorded answers").add_argument(
        "--recorded",
        type=_recorded,
        nargs="+",
        default=None,
        metavar="[CONDITION=]FILE",
        help="take the answers from files: lines with id, condition and answer, lmms-eval's samples, or VLMEvalKit's "
        "predictions (removed=FILE says whose condition they are)",
    )
    parser.set_defaults(run=_run)


def _apply_protocol(options: argparse.Namespace) -> None:
    """Set the options that the protocol fixes; raises ValueError where others contradict it, or there is no model."""
    from fivl_hf.evaluation.conditions import require_conditions
    from fivl_hf.evaluation.plan import DEFAULT_CONDITIONS

    if not options.model and not options.preview:
        raise ValueError("name the model with --model")
    recorded = [condition for condition, _ in options.recorded or ()]
    if options.protocol == "paper" or None in recorded:
        recorded = []
    options.conditions = require_conditions(options.conditions or recorded or DEFAULT_CONDITIONS)
    if options.protocol == "paper":
        contradicted = {
            "--conditions": options.conditions != list(DEFAULT_CONDITIONS),
            "--scorer": options.scorer not in (None, "exact"),
            "--evidence": options.evidence != "boxes",
            "--dilation": options.dilation != 0,
        }
        if names := [name for name, differs in contradicted.items() if differs]:
            raise ValueError(f"--protocol paper fixes {names[0]}: leave out one of the two")
        options.scorer = "exact"


def _add_transformers(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("transformers")
    group.add_argument(
        "--attn-implementation", default=None, help="such as sdpa, eager or flash_attention_2; transformers' choice"
    )
    group.add_argument(
        "--knock-out",
        type=head_position,
        nargs="+",
        default=None,
        metavar="LAYER,HEAD",
        help="attention heads to knock out while the model answers; see fivl knockout",
    )
    group.add_argument(
        "--knock-out-how",
        choices=("zero", "edges"),
        default="zero",
        help="zero: their output is 0; edges: text tokens do not attend to the image in them",
    )
    group.add_argument(
        "--generation",
        type=_option,
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="options of model.generate, such as num_beams=3; decoding is greedy without",
    )


def _add_endpoint(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("endpoint (OpenAI-compatible; the key comes from OPENAI_API_KEY)")
    group.add_argument(
        "--endpoint",
        metavar="URL",
        default=None,
        help="ask --model there, such as https://api.openai.com/v1 or http://localhost:8000/v1 (vLLM)",
    )
    group.add_argument("--image-side", type=positive, default=None, help="longest side of the images that are sent")
    group.add_argument(
        "--batch-api", action="store_true", help="ask by OpenAI's Batch API: half the price, within a day"
    )
    add_budget(group, concurrency=16)


def _option(text: str) -> tuple[str, Any]:
    """Read NAME=VALUE, the value as JSON if it is."""
    import json

    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"NAME=VALUE such as num_beams=3, got {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _recorded(text: str) -> tuple[str | None, Path]:
    """Read CONDITION=FILE or FILE."""
    condition, equals, file = text.partition("=")
    if not equals or Path(text).is_file():
        return None, existing_file(text)
    return condition, existing_file(file)


def _run(options: argparse.Namespace) -> None:
    from fivl_hf.evaluation.results import write_evaluation
    from fivl_hf.evaluation.scorers import scorer
    from fivl_hf.storage import load_rows

    # Before anything is written.
    _apply_protocol(options)
    if options.scorer:
        scorer(options.scorer)
    if options.endpoint and options.recorded:
        raise ValueError("--endpoint and --recorded are two ways to answer: give one")
    rows = load_rows(options.dataset, options.split, options.dataset_config)
    asking = {name: getattr(options, name) for name in ("turns", "prompt_suffix", "evidence", "dilation")}
    if options.preview:
        _preview(options, rows, asking)
        return
    load, usage = _answerer(options)
    try:
        summary = write_evaluation(
            load,
            rows,
            options.output,
            model_name=options.model,
            dataset=options.dataset,
            split=options.split,
            config=options.dataset_config,
            conditions=options.conditions,
            scorer_name=options.scorer,
            seed=options.seed,
            resamples=options.resamples,
            restart=options.restart,
            **asking,
        )
    finally:
        for line in usage():
            print(line)
    if int(os.environ.get("RANK", "0")):
        return
    if unanswered := summary.get("unanswered"):
        again = "; run the command again to ask them" if options.endpoint else ""
        print(f"requests without an answer: {listed_reasons(unanswered)}; unanswered.jsonl lists them{again}")
    for line in table_lines(summary):
        print(line)
    print(f"answers.jsonl and reliance.json are in {options.output}")


def _preview(options: argparse.Namespace, rows: Any, asking: Mapping[str, Any]) -> None:
    from fivl_hf.evaluation.plan import Plan
    from fivl_hf.evaluation.preview import write_preview

    shown = rows.select(range(min(options.preview, len(rows))))
    plan = Plan(shown, options.conditions, seed=options.seed, **asking)
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "preview.html"
    write_preview(plan, path, title=f"{options.dataset}, {options.split}")
    print(f"{path} shows {len(shown):,} rows under {', '.join(plan.conditions)}; nothing was asked")


def _answerer(options: argparse.Namespace) -> tuple[Callable[[], Any], Callable[[], list[str]]]:
    """Return what makes the answerer that the options name, and what says afterwards what it cost."""
    if options.recorded:
        from fivl_hf.evaluation.answerers.recorded import RecordedAnswerer

        return lambda: RecordedAnswerer(options.recorded), list
    if options.endpoint:
        answerer, settings = _endpoint(options)
        return lambda: answerer, lambda: [usage_line(answerer.spent, settings)]
    return partial(_local, options), list


def _local(options: argparse.Namespace) -> Any:
    """Load the model that answers, with heads knocked out if some are named."""
    from fivl_hf.evaluation.answerers.local import TransformersAnswerer
    from fivl_hf.files.processes import Processes
    from fivl_hf.models import load_model

    device = options.device or Processes.of_this_run().device
    model, processor = load_model(
        options.model, device=device, dtype=options.dtype, attn_implementation=options.attn_implementation
    )
    answerer = TransformersAnswerer(
        model,
        processor,
        batch_size=options.batch_size,
        max_new_tokens=options.max_new_tokens,
        generation=dict(options.generation),
    )
    return _KnockedOut(answerer, options.knock_out, options.knock_out_how) if options.knock_out else answerer


class _KnockedOut:
    """A transformers model that answers without some of its heads."""

    splits_over_processes = True
    unanswered = ()

    def __init__(self, answerer: Any, heads: Sequence[tuple[int, int]], how: Any) -> None:
        from fivl_hf.explain.knockout import require_heads

        require_heads(answerer.model, heads)
        self._answerer, self._heads, self._how = answerer, heads, how

    @property
    def identity(self) -> dict[str, Any]:
        heads = sorted(list(head) for head in set(self._heads))
        return {**self._answerer.identity, "knocked_out": heads, "knocked_out_how": self._how}

    @property
    def details(self) -> dict[str, Any]:
        return dict(self._answerer.details)

    def answers(self, requests: Any) -> Any:
        from fivl_hf.explain.knockout import knock_out

        with knock_out(self._answerer.model, self._heads, self._how):
            yield from self._answerer.answers(requests)


def _endpoint(options: argparse.Namespace) -> tuple[Any, Any]:
    """Return what asks the endpoint, and its settings."""
    from fivl_hf.evaluation.answerers.endpoint import EndpointAnswerer

    settings = chat_settings(options, base_url=options.endpoint, reply_tokens=options.max_new_tokens)
    options.output.mkdir(parents=True, exist_ok=True)
    cache = options.output / "answers.sqlite"
    answerer = EndpointAnswerer(settings, cache, image_side=options.image_side, batch_api=options.batch_api)
    return answerer, settings


def table_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return the summary as a short table."""

    from fivl_hf.evaluation.conditions import with_fill
    from fivl_hf.evaluation.summary import unparsed_answers

    def shown(value: float | None) -> str:
        return "    –" if value is None else f"{value:.3f}"

    def reliance(score: float | None, interval: Any) -> str:
        low, high = interval
        return shown(score) + ("" if low is None else f"  [{low:.3f}, {high:.3f}]")

    everything = summary["scope"] == "all"
    about = "all questions" if everything else "those with evidence"
    hiding = {with_fill(kind, summary["fill"]): kind for kind in ("removed", "random")}
    removed = "blacked out" if summary["fill"] == "black" else f"removed ({summary['fill']})"
    counted = f"{summary['questions_with_evidence']:,} of them with evidence"
    if summary["n"] < (summary["questions"] if everything else summary["questions_with_evidence"]):
        counted += f", {summary['n']:,} of {'all' if everything else 'these'} answered under all conditions"
    evidence = reliance(summary["visual_reliance_score"], summary["confidence_interval"])
    control = reliance(summary["random_reliance_score"], summary["random_confidence_interval"])
    lines = [
        f"questions                         {summary['questions']:,}, {counted}",
        f"{f'accuracy on {about}':<32}  {shown(summary['accuracy'])}",
        f"{f'accuracy, evidence {removed}':<32}  {shown(summary['masked_accuracy'])}",
        f"accuracy, random boxes            {shown(summary['random_masked_accuracy'])}",
        f"Visual Reliance Score             {evidence}",
        f"the same with random boxes        {control}",
    ]
    for name, found in summary["conditions"].items():
        if name != "original" and name not in hiding:
            if not found["n"]:
                lines.append(f"{name}: {found['reason']}")
                continue
            lost = reliance(found["reliance"], found["confidence_interval"])
            lines.append(f"accuracy, {name:<22}  {shown(found['accuracy'])}  lost: {lost}")
    answers = sum(found["n"] for found in summary["conditions"].values())
    lines.append(
        f"scored by                         {summary['scoring']}; {unparsed_answers(summary):,} of {answers:,} "
        "answers, all conditions together, could not be read"
    )
    lines += [f"note: {summary[key]}" for key in ("unfinished", "random_note", "reason") if summary.get(key)]
    if len(summary["by_category"]) > 1:
        lines += ["", f"{'category':<32}  {'n':>7}  accuracy  reliance"]
        for name, found in summary["by_category"].items():
            cells = shown(found["accuracy"]), shown(found["visual_reliance_score"])
            lines.append(f"{name[:32] or '(none)':<32}  {found['n']:>7,}  {cells[0]:>8}  {cells[1]:>8}")
    return lines
