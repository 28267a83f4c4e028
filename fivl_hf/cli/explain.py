"""``fivl explain``."""

import argparse
from typing import Any

from fivl_hf.cli.options import HelpFormatter, add_model_and_rows, count, head_position, loaded, positive, word

__all__ = ["add_explain"]


def add_explain(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "explain",
        help="which attention heads look at the evidence, and what the image positions predict",
        description="Compares every head's attention with the masks (and with masks of other images as a control) by "
        "Spearman's correlation, AUROC and other measures, reads the logit lens, compares boxes of localization heads, "
        "scores the segmentation from the vision logits, and draws samples.",
        epilog="Writes report.html with all results, scores.jsonl (every row's scores, as they come), "
        "explanation.json, scores.parquet, head_map.png, lens.png and pictures/ (image, mask, one head's attention, "
        "segment). If it is interrupted, run it again to resume. "
        "accelerate launch -m fivl_hf explain ... spreads the rows over several GPUs.",
        formatter_class=HelpFormatter,
    )
    add_model_and_rows(parser)
    parser.add_argument("--batch-size", type=positive, default=16, help="rows at a time")
    parser.add_argument("--pictures", type=count, default=8, help="how many rows to draw")
    parser.add_argument(
        "--boxes", type=count, default=100, help="rows on which boxes of localization heads are compared; 0 for none"
    )
    parser.add_argument(
        "--protocol",
        choices=("default", "paper"),
        default="default",
        help="paper: let the model write its own answers, use the smallest mask of each turn, and average the "
        "scores of an expression's tokens",
    )
    parser.add_argument(
        "--without-sinks",
        action="store_true",
        help="leave visual sink tokens, which draw attention wherever they are, out of all measures; AUROC is always "
        "measured without them, too",
    )
    parser.add_argument(
        "--head",
        type=head_position,
        default=None,
        metavar="LAYER,HEAD",
        help="head to draw; the best one if not given",
    )
    parser.add_argument(
        "--word",
        type=word,
        default=None,
        help="draw the attention while this word of the answer is written, not the expression",
    )
    parser.add_argument("--seed", type=count, default=0, help="of the halves of the images")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from fivl_hf.explain.report import LABELS, page_in, three_digits
    from fivl_hf.explain.runner import write_explanation

    with loaded(options) as (model, processor, rows, about):
        result = write_explanation(
            model,
            processor,
            rows,
            options.output,
            batch_size=options.batch_size,
            pictures=options.pictures,
            boxes=options.boxes,
            without_sinks=options.without_sinks,
            protocol=options.protocol,
            head=options.head,
            word=options.word,
            about=about,
            seed=options.seed,
            restart=options.restart,
        )
    print(
        f"heads chosen by Spearman on half of the images ({result['chosen_on']:,} expressions), measured on the other:"
    )
    for best in result["top_heads"]:
        print(
            f"layer {best['layer']:>3}  head {best['head']:>3}  correlation {three_digits(best['score'])}  "
            f"control {three_digits(best['control'])}"
        )
    if not result["top_heads"]:
        print(result["reason"])
    print(
        "each measure's own heads, chosen on either half of the images and measured on the other; "
        "control: other images' masks"
    )
    for name, found in result["measures"].items():
        chance = "" if found["chance"] is None else f"  chance {found['chance']:.3f}"
        _print_held_out(LABELS[name], found["held_out"], chance)
        if "without_sinks" in found:
            _print_held_out("  without sink tokens", found["without_sinks"], chance)
    for name, boxes in result.get("localization", {}).items():
        if name == "reason":
            print(f"no boxes were compared: {boxes}")
        else:
            if "reason" in boxes:
                print(f"boxes of {name}: {boxes['reason']}")
                continue
            right = three_digits(boxes["accuracy_at_0.5"]["value"])
            print(f"boxes of {name:<20} IoU {three_digits(boxes['iou']['value'])}  share with IoU ≥ 0.5 {right}")
    print(f"segmentation IoU: {three_digits(result['segmentation']['iou'])}")
    print(f"the page is {page_in(options.output)}")
    if result["problems"]:
        id, problem = next(iter(result["problems"].items()))
        print(f"{len(result['problems']):,} rows could not be explained, such as {id!r}: {problem}")


def _print_held_out(name: str, held_out: dict[str, Any], chance: str) -> None:
    from fivl_hf.explain.report import three_digits

    low, high = held_out["confidence_interval"]
    if low is not None:
        print(
            f"{name:<28} held out {three_digits(held_out['value'])} [{low:.3f}, {high:.3f}]  control "
            f"{three_digits(held_out['control']['value'])}{chance}"
        )
