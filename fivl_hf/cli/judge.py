"""``fivl judge``."""

import argparse
from pathlib import Path
from typing import Any

from fivl_hf.cli.chat_options import add_chat, chat_settings, usage_line
from fivl_hf.cli.options import HelpFormatter, count, folder, positive

__all__ = ["add_judge"]


def add_judge(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "judge",
        help="the quality of a dataset's expressions and masks, judged by a vision language model",
        description="Asks a vision language model about every key expression of samples drawn at random: how important "
        "each is (0 to 10), whether the image shows it inside the mask (Seg1, yes is good), and whether the image "
        "still shows something of it outside (Seg2, no is good). Three requests per expression; answers are cached, so "
        "running it again goes on where it stopped.",
        epilog="Writes judge.json (means with 95% intervals, also by mask coverage) and judgements.jsonl.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--dataset", required=True, help="row dataset: folder or Hub id")
    parser.add_argument("--dataset-config", default=None, help="the dataset's configuration")
    parser.add_argument("--split", default="train", help="split, slices allowed: train[:2000]")
    parser.add_argument("--output", type=folder, required=True, help="folder for the results and the answers")
    parser.add_argument("--samples", type=positive, default=500, help="how many samples with expressions to judge")
    parser.add_argument("--seed", type=count, default=0, help="of the random choice")
    parser.add_argument(
        "--protocol",
        choices=("default", "paper"),
        default="default",
        help="what Seg1 and Seg2 see: the mask's pixels, or the paper's 24×24 patches, darkened by their coverage",
    )
    parser.add_argument("--answers", type=Path, default=None, help="answer cache; OUTPUT/answers.sqlite if not given")
    add_chat(parser, concurrency=8)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from tqdm.auto import tqdm

    from fivl_hf.augment.judge import judge_rows, write_judgements
    from fivl_hf.files.locks import locked
    from fivl_hf.storage import load_rows

    settings = chat_settings(options)
    rows = load_rows(options.dataset, options.split, options.dataset_config)
    with locked(options.output), tqdm(total=options.samples, unit="sample", desc="judge") as bar:
        judged = judge_rows(
            rows,
            settings,
            options.answers or options.output / "answers.sqlite",
            samples=options.samples,
            seed=options.seed,
            protocol=options.protocol,
            progress=bar.update,
        )
        if judged.stopped and not judged.judgements:
            raise ValueError(judged.stopped)
        summary = write_judgements(options.output, judged)
    print(f"{summary['samples']:,} samples, {len(judged.judgements):,} key expressions")
    for name, figures in {"all": summary["all"], **summary["by_mask_coverage"]}.items():
        print(f"{name:>12}  n {figures['n']:>4}  " + "  ".join(_cell(figures, key) for key in _SHOWN))
    print(f"without a usable reply: {summary['without_usable_reply']:,} of {len(judged.judgements):,}")
    print(usage_line(judged.spent, settings))
    if judged.stopped:
        raise ValueError(judged.stopped)
    if summary["without_usable_reply"] == len(judged.judgements):
        raise ValueError(f"no request got a usable reply: {judged.judgements[0].problem}")


_SHOWN = ("degree", "important", "seg1", "seg2")


def _cell(figures: dict[str, Any], key: str) -> str:
    mean, interval = figures[key]["mean"], figures[key]["confidence_interval"]
    if mean is None:
        return f"{key} –"
    shown = f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else ""
    return f"{key} {mean:.2f}{shown} (n {figures[key]['n']})"
