"""``fivl segment``."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from fivl_hf.cli.grounder_options import add_grounder_models
from fivl_hf.cli.options import ExamplesHelpFormatter, add_model_and_rows, count, share
from fivl_hf.supervision import listed_reasons

__all__ = ["add_segment"]

_EXAMPLES = """\
examples:
  fivl segment --model llava-fivl --baseline llava-hf/llava-1.5-7b-hf --dataset fivl --split test --output segments
  fivl segment --model demo/models/fivl --baseline demo/models/baseline --dataset demo/fivl --grounder scenes \\
      --output segments

Writes segments-NAME.jsonl (every row's scores, as they come), segmentation.json and pictures/. IoU is that of visual
tokens, the mean over the words with a detection; "found" is the share of words with one; "tokens" and "words" are per
row, and words are the tokens without function words, punctuation and special tokens. If it is interrupted, run it again
to resume."""


def add_segment(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "segment",
        help="words that image positions predict, against a detector prompted with them: the paper's table",
        description="Groups the visual tokens of an image by the word that each predicts, prompts a detector and "
        "segmenter with each word on the same image, and compares: the table of the paper, for one model or two.",
        epilog=_EXAMPLES,
        formatter_class=ExamplesHelpFormatter,
    )
    add_model_and_rows(parser)
    parser.add_argument("--baseline", default=None, help="another model to measure beside it: folder or Hub id")
    parser.add_argument("--pictures", type=count, default=8, help="how many rows to draw")
    group = parser.add_argument_group("detector")
    group.add_argument(
        "--grounder", choices=("grounded-sam", "sam3", "scenes"), default="grounded-sam", help="finds words in images"
    )
    add_grounder_models(group)
    group.add_argument(
        "--thresholds", type=share, nargs="+", default=[0.2, 0.4, 0.6], help="smallest scores of a box, one table each"
    )
    group.add_argument(
        "--protocol",
        choices=("default", "paper"),
        default="default",
        help="paper: images padded to 336×336, the union of SAM's three candidates",
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from fivl_hf.augment.tools import ToolSettings
    from fivl_hf.explain.segment_runner import segmentation_table, write_segmentation
    from fivl_hf.files.locks import locked
    from fivl_hf.models import load_model, weights_fingerprint
    from fivl_hf.storage import load_rows
    from fivl_hf.storage.provenance import provenance

    rows = load_rows(options.dataset, options.split, options.dataset_config)
    settings = ToolSettings(
        grounder=options.grounder,
        detector=options.detector,
        segmenter=options.segmenter,
        sam3=options.sam3,
        batch_size=options.batch_size,
        device=options.device,
        dtype=None if options.dtype == "auto" else options.dtype,
        protocol=options.protocol,
    )
    if options.grounder != "grounded-sam" and options.protocol == "paper":
        raise ValueError(f"--protocol paper would change nothing here: it is for grounded-sam, not {options.grounder}")
    settings.require_models("take scenes, whose masks are exact (--grounder scenes)")
    if options.baseline == options.model:
        raise ValueError("--baseline is the same model")
    names = _names(options.model, options.baseline)
    load = partial(load_model, device=options.device, dtype=options.dtype)
    with locked(options.output):
        for model in names.values():
            # What is not here yet is downloaded first: results are known by the weights.
            if weights_fingerprint(model) is None:
                load(model)
        dataset = {"dataset": options.dataset, "split": options.split, "config": options.dataset_config}
        about = {
            **provenance(options.model, rows, **dataset),
            "baseline": options.baseline,
            "baseline_weights_fingerprint": weights_fingerprint(options.baseline) if options.baseline else None,
            "grounder": options.grounder,
            "thresholds": None if options.grounder == "scenes" else sorted(options.thresholds),
            "protocol": options.protocol,
        }
        if options.grounder != "scenes":
            about |= {"detector": options.detector, "segmenter": options.segmenter, "sam3": options.sam3}
        measured = write_segmentation(
            {name: partial(load, model) for name, model in names.items()},
            rows,
            settings.word_finder(options.thresholds),
            options.output,
            pictures=options.pictures,
            about=about,
            restart=options.restart,
        )
    print("\n".join(segmentation_table(measured)))
    for name, figures in measured.items():
        left_out = listed_reasons(figures["left_out"])
        print(f"{name}: {figures['n']:,} rows; left out of the words: {left_out or 'nothing'}")
        if figures["problems"]:
            id, problem = next(iter(figures["problems"].items()))
            print(f"{name}: {len(figures['problems']):,} rows were left out, such as {id!r}: {problem}")


def _names(model: str, baseline: str | None) -> dict[str, str]:
    """Return the models by the names of their folders, the baseline first."""
    if baseline is None:
        return {Path(model).name: model}
    names = (Path(baseline).name, Path(model).name)
    first, second = names if names[0] != names[1] else ("baseline", "model")
    return {first: baseline, second: model}
