"""The ``fivl`` command: the long jobs, each on any row dataset and model."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fivl_hf.demo_settings import DemoSettings

__all__ = ["main"]

_EPILOG = {
    "evaluate": "Writes reliance.json (the summary) and answers.jsonl (every question with its three answers).",
    "explain": "Writes explanation.json, head_map.png and pictures/ (image, mask, one head's attention, segment).",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``fivl`` with the given arguments (the command line's if None); returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["train"]:
        return _guarded(_train, arguments[1:])
    options = _parser().parse_args(arguments)
    return _guarded(options.run, options)


def _guarded(command: Any, *args: Any) -> int:
    """What the user can mend is one message, not a traceback."""
    try:
        command(*args)
    except (ValueError, OSError, ImportError) as error:
        print(f"fivl: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("fivl: interrupted; finished stages are kept", file=sys.stderr)
        return 130
    return 0


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults where there are any."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fivl",
        description="FiVL: train, evaluate and explain vision-language models by their image evidence.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_demo(commands)
    commands.add_parser(
        "train",
        add_help=False,
        help="fine-tune a model with Vision Modeling (all of TRL's flags; see fivl train --help)",
    )
    _add_evaluate(commands)
    _add_explain(commands)
    return parser


def _add_demo(commands: Any) -> None:
    parser = commands.add_parser(
        "demo",
        help="the whole of FiVL on rendered scenes, in minutes",
        description="Makes a dataset of rendered scenes, trains a small LLaVA with and without Vision Modeling, "
        "measures visual reliance, heads and segmentation, and writes report.html and results.json. Running it "
        "again reuses the stages that are finished.",
        formatter_class=_Help,
    )
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for everything the demo makes")
    parser.add_argument("--seed", type=_count, default=0, help="of scenes, weights, order and random boxes")
    parser.add_argument("--steps", type=_positive, default=DemoSettings.steps, help="training steps of each model")
    parser.set_defaults(run=_demo)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="model folder or Hub id")
    parser.add_argument("--dataset", required=True, help="row dataset: folder or Hub id")
    parser.add_argument("--dataset-config", default=None, help="the dataset's configuration")
    parser.add_argument("--split", default="test", help="split, slices allowed: test[:200]")
    parser.add_argument("--output", type=_folder, required=True, help="folder for the results")
    parser.add_argument("--device", default=None, help="such as cuda or cpu; an accelerator if there is one")
    parser.add_argument("--dtype", default="auto", help="such as bfloat16; the checkpoint's own by default")


def _add_evaluate(commands: Any) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="visual reliance of a model: accuracy with and without the evidence",
        description="Asks every question on the original image, with the evidence blacked out, and with random boxes "
        "of the same sizes blacked out; reports accuracies and the Visual Reliance Score with confidence intervals.",
        epilog=_EPILOG["evaluate"],
        formatter_class=_Help,
    )
    _add_common(parser)
    parser.add_argument("--turns", choices=("first", "all"), default="first", help="which questions of a conversation")
    parser.add_argument("--batch-size", type=_positive, default=16, help="questions per batch")
    parser.add_argument("--max-new-tokens", type=_positive, default=32, help="longest answer")
    parser.add_argument("--seed", type=_count, default=0, help="of the random boxes and the bootstrap")
    parser.add_argument("--resamples", type=_positive, default=1000, help="bootstrap resamples")
    parser.set_defaults(run=_evaluate)


def _add_explain(commands: Any) -> None:
    parser = commands.add_parser(
        "explain",
        help="which attention heads look at the evidence, and what the image positions predict",
        description="Correlates every head's attention with the masks (and with masks of other pictures as a control), "
        "scores the segmentation from the vision logits, and draws samples.",
        epilog=_EPILOG["explain"],
        formatter_class=_Help,
    )
    _add_common(parser)
    parser.add_argument("--pictures", type=_count, default=8, help="how many rows to draw")
    parser.add_argument(
        "--head",
        type=_head,
        default=None,
        metavar="LAYER,HEAD",
        help="head to draw; the best one if not given",
    )
    parser.add_argument(
        "--word",
        type=_word,
        default=None,
        help="draw the attention while this word of the answer is written, not the expression",
    )
    parser.set_defaults(run=_explain)


def _demo(options: argparse.Namespace) -> None:
    # Nothing the demo needs is on the Hub.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from fivl_hf.demo import run_demo

    run_demo(options.output, DemoSettings(seed=options.seed, steps=options.steps))


def _train(arguments: list[str]) -> None:
    from fivl_hf.training.runner import train_from_arguments

    train_from_arguments(arguments)


def _evaluate(options: argparse.Namespace) -> None:
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
    text = json.dumps(summary, indent=2)
    (options.output / "reliance.json").write_text(text + "\n", encoding="utf-8")
    print(text)


def _explain(options: argparse.Namespace) -> None:
    from fivl_hf.explain.runner import write_explanation
    from fivl_hf.models import load_model
    from fivl_hf.storage import load_rows

    rows = load_rows(options.dataset, options.split, options.dataset_config)
    model, processor = load_model(options.model, device=options.device, dtype=options.dtype)
    result = write_explanation(
        model, processor, rows, options.output, pictures=options.pictures, head=options.head, word=options.word
    )
    for best in result["top_heads"]:
        print(f"layer {best['layer']:>3}  head {best['head']:>3}  correlation {best['score']:.3f}")
    control = result["best_head_control"]
    print(f"control of the best head (masks of other pictures): {'none' if control is None else f'{control:.3f}'}")
    print(f"segmentation IoU: {result['segmentation']['iou']}")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def _folder(text: str) -> Path:
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} exists and is not a folder")
    return path


def _word(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("a word is needed")
    return text.strip()


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, got {value}")
    return value


def _head(text: str) -> tuple[int, int]:
    try:
        layer, head = (int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"LAYER,HEAD such as 14,11, got {text!r}") from error
    return layer, head
