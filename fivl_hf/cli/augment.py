"""``fivl augment``."""

import argparse
import os
from functools import partial
from pathlib import Path
from typing import Any

from fivl_hf.augment.inputs.settings import FORMATS, InputSettings
from fivl_hf.augment.tools import GROUNDERS, ToolSettings
from fivl_hf.cli.chat_options import add_chat, chat_settings, usage_line
from fivl_hf.cli.grounder_options import add_grounder_models
from fivl_hf.cli.options import ExamplesHelpFormatter, count, existing_file, existing_folder, folder, positive

__all__ = ["add_augment"]

_EXAMPLE = """\
example:
  fivl augment --input llava_v1_5_mix665k.json --images data/ --output fivl \\
      --extractor openai --model gpt-4o --grounder grounded-sam

If it is killed or interrupted, run the same command again to resume: finished shards and every paid answer are in
OUTPUT.work.
The dataset in OUTPUT is ready for load_dataset; report.html there shows what was kept, what not and why."""


def add_augment(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "augment",
        help="make a FiVL dataset from image conversations: key expressions, boxes and masks",
        description="Finds the key expressions of every answer (a language model, or noun phrases offline), finds each "
        "in the image (detector and segmenter, or annotations), and writes a dataset of FiVL rows.",
        epilog=_EXAMPLE,
        formatter_class=ExamplesHelpFormatter,
    )
    _add_input(parser)
    parser.add_argument("--output", type=folder, required=True, help="folder of the dataset")
    _add_extractor(parser)
    add_chat(parser, concurrency=16)
    _add_grounder(parser)
    _add_run(parser)
    parser.set_defaults(run=_run)


def _add_input(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("input")
    group.add_argument(
        "--input",
        required=True,
        help="LLaVA JSON or JSON Lines, POPE, VQA v2 or GQA questions, a dataset (folder, Parquet file, Hub id), or "
        "'scenes' for rendered ones",
    )
    group.add_argument(
        "--images", type=existing_folder, nargs="+", default=[], help="folders of the images that the input names"
    )
    group.add_argument("--format", choices=FORMATS, default=None, help="of the input; found out if not given")
    group.add_argument("--vqa-answers", type=existing_file, default=None, help="VQA v2's annotations file")
    group.add_argument("--split", default="train", help="of an input dataset, and the output's split")
    group.add_argument(
        "--dataset-config", default=None, help="the input dataset's configuration; of scenes, their style, such as free"
    )
    group.add_argument("--limit", type=positive, default=None, help="number of samples to read")
    group.add_argument(
        "--seed", type=count, default=None, help="with --limit: draw the samples at random instead of taking the first"
    )


def _add_extractor(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("key expressions")
    group.add_argument(
        "--extractor",
        choices=("openai", "offline"),
        default="openai",
        help="a language model, or noun phrases by the tagger",
    )
    group.add_argument("--tagger", choices=("hanta", "spacy"), default="hanta", help="finds the nouns of expressions")
    group.add_argument(
        "--protocol",
        choices=("default", "paper"),
        default="default",
        help="rules for expressions, boxes and masks: ours, or those of the paper's code (docs/paper.md)",
    )
    group.add_argument(
        "--dry-run", action="store_true", help="only count the requests and estimate their tokens and cost"
    )
    group.add_argument(
        "--batch-api",
        action="store_true",
        help="ask through OpenAI's Batch API first: half the price, up to a day; may be stopped and run again",
    )
    group.add_argument("--poll", type=float, default=60.0, help="seconds between two looks at the batches")
    group.add_argument(
        "--answers", type=Path, default=None, help="answer cache to share; OUTPUT.work/answers.sqlite if not given"
    )


def _add_grounder(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("evidence")
    group.add_argument("--grounder", choices=GROUNDERS, default="grounded-sam", help="finds expressions in images")
    add_grounder_models(group)
    group.add_argument(
        "--annotations",
        type=existing_file,
        nargs="+",
        default=[],
        help="COCO instances or GQA scene graphs, for the grounder annotations",
    )
    group.add_argument("--threshold", type=float, default=ToolSettings.threshold, help="smallest score of a box")
    group.add_argument("--device", default=None, help="a GPU per worker if there are any, else the CPU")
    group.add_argument("--dtype", default=None, help="bfloat16 on GPUs that have it, else float32")


def _add_run(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("run")
    group.add_argument(
        "--workers",
        type=positive,
        default=None,
        help="processes: one per GPU; without GPUs one for a detector, else one per core",
    )
    group.add_argument("--shard-size", type=positive, default=64, help="samples that a kill loses at most, per worker")
    group.add_argument("--engine", choices=("local", "ray"), default="local", help="here, or on a Ray cluster")
    group.add_argument("--ray-address", default=None, help="of a Ray cluster; a local one if not given")
    group.add_argument("--num-gpus-per-worker", type=float, default=None, help="for Ray; 1 if this machine has GPUs")
    group.add_argument("--restart", action="store_true", help="start over (paid answers are kept)")
    group.add_argument("--retry-failed", action="store_true", help="run the shards with failed samples again")


def _run(options: argparse.Namespace) -> None:
    from fivl_hf.augment.inputs.readers import count_records, read_conversations
    from fivl_hf.augment.pipeline import RunSettings, run_augmentation
    from fivl_hf.files.managed_folders import work_folder
    from fivl_hf.storage.cards import CardContent

    source = InputSettings(
        input=options.input,
        images=tuple(options.images),
        format=options.format,
        answers=options.vqa_answers,
        split=options.split,
        config=options.dataset_config,
        limit=options.limit,
        seed=options.seed,
    )
    records = partial(read_conversations, source)
    work = work_folder(options.output.resolve())
    extraction = _extraction(options, work)
    if options.dry_run and extraction:
        _estimate(records, extraction)
        return
    tools = _tools(options, work)
    tools.require_models()
    settings = RunSettings(
        output=options.output,
        split=options.split,
        identity=_identity(options, extraction),
        shard_size=options.shard_size,
        restart=options.restart,
        retry_failed=options.retry_failed,
        total=count_records(source),
        card=CardContent(options.output.resolve().name),
        about={
            "input": options.input,
            "images": [str(path) for path in options.images],
            "limit": options.limit,
            "seed": options.seed,
        },
    )
    result = run_augmentation(
        records,
        tools,
        settings,
        engine=_engine(options, tools.workers),
        extraction=extraction,
        prepare=partial(_index_annotations, options, tools),
    )
    tally = result.tally
    print(f"{tally.line()}; dataset and report.html are in {options.output}")
    if usable := result.usable():
        print(usable)
    if tally.failed:
        print(f"failed: {result.failures()}; once the cause is fixed, --retry-failed tries them again")
    if extraction and result.spent:
        print(usage_line(result.spent, extraction.settings))
    if result.stopped:
        raise ValueError(f"not complete: {result.stopped}")


def _extraction(options: argparse.Namespace, work: Path) -> Any:
    from fivl_hf.augment.pipeline import ExtractionSettings

    if options.extractor == "openai":
        cache = options.answers or work / "answers.sqlite"
        return ExtractionSettings(chat_settings(options), cache, options.batch_api, options.poll, options.protocol)
    if options.dry_run or options.batch_api:
        raise ValueError("--dry-run and --batch-api go with --extractor openai: the offline extractor asks nobody")
    return None


def _tools(options: argparse.Namespace, work: Path) -> ToolSettings:
    if options.grounder == "annotations" and not options.annotations:
        raise ValueError("--grounder annotations needs the annotation files: --annotations FILE ...")
    from fivl_hf.files.disk_table import index_file

    return ToolSettings(
        grounder=options.grounder,
        detector=options.detector,
        segmenter=options.segmenter,
        sam3=options.sam3,
        annotations=index_file(work, "annotations", options.annotations) if options.annotations else None,
        threshold=options.threshold,
        batch_size=options.batch_size,
        device=options.device,
        dtype=options.dtype,
        tagger=options.tagger,
        protocol=options.protocol,
        workers=options.workers or _default_workers(options.grounder, options.device),
    )


def _index_annotations(options: argparse.Namespace, tools: ToolSettings) -> dict[str, Any]:
    if options.grounder == "annotations" and tools.annotations:
        from fivl_hf.augment.grounders.annotations import index_annotations

        if not tools.annotations.is_file():
            print("reading annotations ...", flush=True)
        index_annotations(options.annotations, tools.annotations)
    return {}


def _default_workers(grounder: str, device: str | None) -> int:
    if grounder in ("annotations", "scenes"):
        return os.cpu_count() or 1
    import torch

    return max(1, torch.cuda.device_count()) if device is None else 1


def _engine(options: argparse.Namespace, workers: int) -> Any:
    from fivl_hf.jobs.engines import LocalEngine, RayEngine

    if options.engine == "local":
        return LocalEngine(workers)
    gpus = options.num_gpus_per_worker
    if gpus is None:
        import torch

        gpus = 1.0 if torch.cuda.is_available() and options.grounder in ("grounded-sam", "sam3") else 0.0
    return RayEngine(workers, options.ray_address, gpus)


def _identity(options: argparse.Namespace, extraction: Any) -> dict[str, Any]:
    """Return what decides the rows, besides the input."""
    from fivl_hf.augment.extractors.prompts import EXPRESSIONS_VERSION

    chosen: dict[str, Any] = {"extractor": options.extractor, "grounder": options.grounder, "tagger": options.tagger}
    chosen |= {"protocol": options.protocol}
    if extraction:
        chosen |= {"model": extraction.settings.model, "prompt": EXPRESSIONS_VERSION}
    if options.grounder == "grounded-sam":
        chosen |= {"detector": options.detector, "segmenter": options.segmenter, "threshold": options.threshold}
    elif options.grounder == "sam3":
        chosen |= {"sam3": options.sam3, "threshold": options.threshold}
    elif options.grounder == "annotations":
        stats = [(path, path.stat()) for path in options.annotations]
        chosen |= {"annotations": [[str(path), stat.st_size, int(stat.st_mtime)] for path, stat in stats]}
    return chosen


def _estimate(records: Any, extraction: Any) -> None:
    from fivl_hf.augment.extractors.chat import estimate
    from fivl_hf.augment.prefetch import askable_turns
    from fivl_hf.llm.answers import AnswerCache

    turns = (turn for record in records() for turn in askable_turns(record))
    cache = AnswerCache(extraction.cache)
    found = estimate(turns, extraction.settings, cache)
    cache.close()
    print(f"{found.requests:,} requests to pay for, {found.cached:,} answered already")
    print(f"about {found.prompt_tokens:,} prompt tokens and {found.completion_tokens:,} reply tokens")
    cost = extraction.settings.cost(found.prompt_tokens, found.completion_tokens)
    if cost is None:
        print("name --input-price and --output-price (US dollars per million tokens) for the cost")
    else:
        print(f"about {cost:,.2f} US dollars, or {cost / 2:,.2f} through --batch-api")
