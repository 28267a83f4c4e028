"""``fivl push``."""

import argparse
import sys
from pathlib import Path
from typing import Any

from fivl_hf.cli.options import HelpFormatter, existing_folder
from fivl_hf.cli.page_options import require_gradio

__all__ = ["add_push"]


def add_push(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "push",
        help="publish a dataset, a model or a metric on the Hub",
        description="Publishes on the Hub. An interrupted push can be repeated: what is there is not sent again.",
    )
    kinds = parser.add_subparsers(title="what", required=True, metavar="KIND")
    dataset = kinds.add_parser(
        "dataset",
        help="a folder that fivl build or fivl augment wrote",
        description="Pushes Parquet files, card and pictures of a dataset folder; files of an earlier push that are "
        "not in it are deleted.",
        formatter_class=HelpFormatter,
    )
    dataset.add_argument("folder", metavar="FOLDER", type=existing_folder, help="the dataset's folder")
    _add_common(dataset, _dataset)
    model = kinds.add_parser(
        "model",
        help="a model that fivl train or FiVLTrainer saved",
        description="Pushes a model with its card; what was measured goes into the card, its model-index and "
        ".eval_results.",
        formatter_class=HelpFormatter,
    )
    model.add_argument("folder", metavar="FOLDER", type=existing_folder, help="the model's folder")
    model.add_argument("--evaluation", type=existing_folder, default=None, help="output folder of fivl evaluate")
    model.add_argument(
        "--benchmark",
        default=None,
        metavar="YOU/NAME",
        help="the benchmark's id on the Hub, if --evaluation read its rows from a folder; its leaderboard gets the "
        "score",
    )
    model.add_argument("--explanation", type=existing_folder, default=None, help="output folder of fivl explain")
    model.add_argument(
        "--force",
        action="store_true",
        help="push results of other weights or of another version of this package; the card says so",
    )
    _add_common(model, _model)
    metric = kinds.add_parser(
        "metric",
        help="an evaluate module, as a Space where one can try it",
        description="Pushes an evaluate module as a Space; evaluate.load('YOU/NAME') then loads it.",
        formatter_class=HelpFormatter,
    )
    metric.add_argument("name", metavar="NAME", help="visual_reliance_score, head_alignment or vision_segmentation")
    _add_requirement(metric)
    _add_common(metric, _metric)
    explorer = kinds.add_parser(
        "explorer",
        help="the page of fivl explore for a model that is on the Hub, as a Space",
        description="Pushes a Space that loads a model and a dataset from the Hub and serves the page of fivl explore.",
        formatter_class=HelpFormatter,
    )
    explorer.add_argument("--model", required=True, metavar="YOU/NAME", help="the model's id")
    explorer.add_argument("--compare", default=None, metavar="YOU/NAME", help="another model, shown beside it")
    explorer.add_argument("--dataset", required=True, metavar="YOU/NAME", help="the row dataset's id")
    explorer.add_argument("--split", default="test", help="of the dataset")
    _add_requirement(explorer)
    _add_common(explorer, _explorer)


def _add_requirement(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--requirement",
        required=True,
        help="how pip finds this package, which is on no package index, on the Space: 'fivl-hf @ git+https://...'",
    )


def _add_common(parser: argparse.ArgumentParser, upload: Any) -> None:
    parser.add_argument("repo_id", metavar="REPO", help="YOU/NAME on the Hub")
    parser.add_argument("--private", action="store_true", help="make a repository that does not exist yet private")
    parser.add_argument(
        "--revision", default=None, help="branch to push to, created if there is none; main if not given"
    )
    parser.add_argument("--dry-run", action="store_true", help="only list what would go, and print the card")
    parser.set_defaults(run=_run, upload=upload)


def _run(options: argparse.Namespace) -> None:
    from fivl_hf.hub.push import push

    upload = options.upload(options)
    sizes = upload.sizes()
    total = sum(size for _, size in sizes)
    if upload.warning:
        print(f"fivl: warning: {upload.warning}", file=sys.stderr)
    if options.dry_run:
        for name, size in sizes:
            print(f"{size:>14,}  {name}")
        print(f"{len(sizes)} files, {total:,} bytes would go to {upload.url} with this card (README.md):\n")
        print(upload.card)
        return
    print(f"pushing {len(sizes)} files, {total:,} bytes, to {upload.url} ...", flush=True)
    print(push(upload, private=options.private or None, revision=options.revision))


def _dataset(options: argparse.Namespace) -> Any:
    from fivl_hf.hub.push import dataset_upload

    return dataset_upload(Path(options.folder), options.repo_id)


def _model(options: argparse.Namespace) -> Any:
    from fivl_hf.hub.measured_cards import read_measured
    from fivl_hf.hub.push import model_upload

    measured = read_measured(options.evaluation, options.explanation)
    return model_upload(
        Path(options.folder), options.repo_id, measured, force=options.force, benchmark=options.benchmark
    )


def _metric(options: argparse.Namespace) -> Any:
    from fivl_hf.hub.push import metric_upload

    return metric_upload(options.name, options.repo_id, options.requirement)


def _explorer(options: argparse.Namespace) -> Any:
    require_gradio()
    from fivl_hf.hub.explorer_space import explorer_upload

    return explorer_upload(
        options.repo_id,
        options.model,
        options.dataset,
        options.requirement,
        split=options.split,
        compare=options.compare,
    )
