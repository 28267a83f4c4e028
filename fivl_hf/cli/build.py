"""``fivl build``."""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from fivl_hf.cli.options import (
    ExamplesHelpFormatter,
    count,
    existing_file,
    existing_folder,
    folder,
    positive,
    share,
)

__all__ = ["add_build"]

_EXAMPLES = """\
examples:
  fivl build fivl_instruct --data-dir data --output fivl-instruct      # the authors' release and LLaVA's conversations
  fivl build fivl_instruct --data-dir data --download --output fivl-instruct          # fetches both first
  fivl build fivl_instruct --config augmented --data-dir fivl --output fivl-instruct     # rows by fivl augment
  fivl build fivl_pope --data-dir pope --output fivl-pope              # evidence from COCO's annotations
  fivl build fivl_pope --data-dir pope --evidence pope-adversarial pope-popular pope-random --output fivl-pope
  fivl build fivl_scenes --limit 200 --output scenes                   # needs no files

what DATA_DIR holds:
  fivl_instruct  fivl_instruct.json, dataset_grounded.tar, llava_v1_5_mix665k.json; coco, gqa, ocr_vqa, textvqa, vg
  fivl_pope      coco_pope_adversarial.json, coco_pope_popular.json, coco_pope_random.json; val2014
  fivl_vqav2     v2_OpenEnded_mscoco_val2014_questions.json, v2_mscoco_val2014_annotations.json; val2014
  fivl_gqa       val_balanced_questions.json or testdev_...; images; val_sceneGraphs.json
  and for evidence from annotations COCO's instances_val2014.json (fivl_pope, fivl_vqav2)

If it is killed or interrupted, run it again to resume. A benchmark keeps every question with its id; those without
evidence have no key expressions, and are the configuration "without_evidence" of the dataset."""


def add_build(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "build",
        help="build FiVL-Instruct, -POPE, -VQAv2, -GQA or scenes as a dataset repository",
        description="Builds a dataset repository from the source files of a dataset: Parquet that load_dataset reads "
        "and streams, with a card. fivl push dataset publishes it.",
        epilog=_EXAMPLES,
        formatter_class=ExamplesHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", help="fivl_instruct, fivl_pope, fivl_vqav2, fivl_gqa or fivl_scenes")
    parser.add_argument("--output", type=folder, required=True, help="folder of the dataset")
    source = parser.add_argument_group("sources")
    source.add_argument("--data-dir", type=folder, default=None, help="folder of the source files, see below")
    source.add_argument(
        "--download",
        action="store_true",
        help="fetch the authors' release and LLaVA's conversations (8.5 GB and 1 GB) to DATA_DIR, and say which images "
        "are missing and where they come from (fivl_instruct)",
    )
    source.add_argument("--config", default=None, help="of the builder: release or augmented, for fivl_instruct")
    source.add_argument("--images", type=existing_folder, nargs="+", default=[], help="further folders of images")
    source.add_argument("--evidence", nargs="+", default=[], help="rows by fivl augment, for a benchmark")
    source.add_argument(
        "--annotations", type=existing_file, nargs="+", default=[], help="COCO instances or GQA scene graphs"
    )
    keep = parser.add_argument_group("what to keep")
    keep.add_argument("--split", nargs="+", default=[], help="only these splits")
    keep.add_argument("--max-coverage", type=share, default=None, help="leave out masks covering more of the image")
    keep.add_argument("--min-score", type=share, default=None, help="leave out expressions with a lower detector score")
    keep.add_argument("--limit", type=positive, default=None, help="number of samples of each split")
    keep.add_argument(
        "--seed", type=count, default=None, help="with --limit: draw them at random; of scenes, their seed"
    )
    keep.add_argument("--tagger", choices=("hanta", "spacy"), default="hanta", help="finds the nouns of expressions")
    keep.add_argument(
        "--evidence-only", action="store_true", help="leave out conversations without evidence (fivl_instruct)"
    )
    keep.add_argument(
        "--absent",
        choices=("plausible",),
        default="",
        help='evidence for "no" questions, too: the objects that are most often annotated together with the absent '
        "one; their category ends in /plausible (fivl_pope)",
    )
    keep.add_argument(
        "--protocol",
        choices=("default", "paper"),
        default="default",
        help="rules for the release's expressions: ours, or those of the paper's code (docs/paper.md)",
    )
    run = parser.add_argument_group("run")
    run.add_argument("--workers", type=positive, default=os.cpu_count() or 1, help="processes")
    run.add_argument("--restart", action="store_true", help="start over")
    run.add_argument("--retry-failed", action="store_true", help="run the shards with failed samples again")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    if options.download:
        _download(options)
    from fivl_hf.building.run import BuildSettings, build_dataset, builder_class

    found = builder_class(options.name)
    if options.seed is not None and options.limit is None and options.name != "fivl_scenes":
        raise ValueError("--seed draws samples for --limit, which is not given")
    with tempfile.TemporaryDirectory() as cache:
        builder = found(cache_dir=cache, config_name=options.config, **_config(options))
        settings = BuildSettings(
            output=options.output,
            workers=options.workers,
            limit=None if options.name == "fivl_scenes" else options.limit,
            seed=None if options.name == "fivl_scenes" else options.seed,
            restart=options.restart,
            retry_failed=options.retry_failed,
        )
        result = build_dataset(builder, settings)
    tally = result.tally
    print(f"{tally.line()}; the dataset is in {options.output}")
    if usable := result.usable():
        print(usable)
    for line in _contents(options.output):
        print(line)
    name = options.output.resolve().name
    print(f"look at it: fivl show {options.output}; publish it: fivl push dataset {options.output} YOU/{name}")


def _download(options: argparse.Namespace) -> None:
    """Download the release and print which images are missing; raises ValueError if any is."""
    from fivl_hf.building.download import IMAGE_ARCHIVES, download_release, missing_images
    from fivl_hf.building.release import CONVERSATIONS_FILE

    if options.name != "fivl_instruct" or options.config == "augmented":
        raise ValueError("--download fetches the authors' release, for fivl_instruct alone")
    if options.data_dir is None:
        raise ValueError("--download needs --data-dir: the folder that the files go to")
    for name, size in download_release(options.data_dir).items():
        print(f"{size:>14,}  {options.data_dir / name}")
    counts = missing_images(options.data_dir / CONVERSATIONS_FILE, (options.data_dir, *options.images))
    instructions = {each.folder: each.instruction(options.data_dir) for each in IMAGE_ARCHIVES}
    for name, (total, missing) in counts.items():
        print(f"{total:>9,} images, {missing:,} missing  {options.data_dir / name}")
        if missing:
            print(f"{'':>11}{instructions.get(name, 'LLaVA does not say where these come from')}")
    if total_missing := sum(missing for _, missing in counts.values()):
        raise ValueError(
            f"{total_missing:,} {'image is' if total_missing == 1 else 'images are'} missing: fill the folders above "
            "and run the command again, or run it without --download to build from what is there"
        )


def _contents(output: Path) -> list[str]:
    """Return how many rows each split has, and how many of a benchmark's questions have evidence."""
    from fivl_hf.building.limits import WITH_EVIDENCE, WITHOUT_EVIDENCE
    from fivl_hf.storage.cards import DEFAULT_CONFIG, config_rows, read_card

    rows = config_rows(read_card((output / "README.md").read_text(encoding="utf-8"))[0])
    benchmark = WITH_EVIDENCE in rows or WITHOUT_EVIDENCE in rows
    evident = rows.get(WITH_EVIDENCE, {})
    return [
        f"  {split}: {count:,} rows" + (f", {evident.get(split, 0):,} with evidence" if benchmark else "")
        for split, count in rows[DEFAULT_CONFIG].items()
    ]


def _config(options: argparse.Namespace) -> dict[str, Any]:
    """Return the builder's configuration; what is not given is the builder's default."""
    given = {
        "data_dir": str(options.data_dir) if options.data_dir else None,
        "images": tuple(str(path) for path in options.images),
        "evidence": tuple(options.evidence),
        "annotations": tuple(str(path) for path in options.annotations),
        "splits": tuple(options.split),
        "max_coverage": options.max_coverage,
        "min_score": options.min_score,
        "tagger": options.tagger,
        "protocol": options.protocol,
        "evidence_only": options.evidence_only,
        "absent": options.absent,
    }
    if options.name == "fivl_scenes":
        # Scenes are made, not read: as many as asked for, of that seed.
        given["seed"] = options.seed
        given |= dict.fromkeys(("train_rows", "validation_rows", "test_rows"), options.limit)
    return {key: value for key, value in given.items() if value not in (None, ())}
