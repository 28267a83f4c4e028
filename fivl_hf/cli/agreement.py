"""``fivl agreement``, ``fivl filter`` and ``fivl annotations``."""

import argparse
from pathlib import Path
from typing import Any

from fivl_hf.cli.options import HelpFormatter, existing_file, folder, positive, shown_name

__all__ = ["add_agreement", "add_annotations", "add_filter"]

_ANNOTATIONS = "folder of a study of fivl annotate, or a file of its annotators/; can be repeated"


def add_agreement(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "agreement",
        help="report how annotators rate a dataset, and how well they agree",
        description="Makes figures of annotations: how many expressions, masks and examples are good (with intervals, "
        "by mask size and source), how far annotators agree (Cohen's and Fleiss' kappa, Krippendorff's alpha), and how "
        "far the judge and the extractor agree with them.",
        epilog="Writes agreement.html (figures, confusion tables, the expressions that people disagree about) and "
        "agreement.json.",
        formatter_class=HelpFormatter,
    )
    _add_rated(parser)
    parser.add_argument("--judgements", type=existing_file, default=None, help="judgements.jsonl of fivl judge")
    parser.add_argument("--gallery", type=positive, default=24, help="most disagreements to show")
    parser.add_argument("--output", type=folder, default=Path("agreement"), help="folder for the page and the figures")
    parser.set_defaults(run=_agreement)


def add_filter(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "filter",
        help="write a dataset without what annotators rejected, their fixes applied",
        description="Writes a dataset without what annotators rejected. A verdict is what most of them answered; of "
        "several fixes of one expression's mask, boxes or words, that of the first annotator by name is applied; an "
        "expression is dropped if more than half of its annotators want it to be.",
        epilog="--keep good: expressions to whose three questions most annotators answered yes; rows without one go. "
        "--keep not-bad: rows called a bad example go, and expressions whose mask or words are rejected; what nobody "
        "annotated, or people are undecided about, stays. The card says what was done. Expressions that annotators "
        "missed are not added: they have no mask.",
        formatter_class=HelpFormatter,
    )
    _add_rated(parser)
    parser.add_argument("--keep", choices=("good", "not-bad"), default="good", help="what stays; see below")
    parser.add_argument("--no-fixes", action="store_true", help="leave masks, boxes and words as they are")
    parser.add_argument("--output", type=folder, required=True, help="folder for the cleaned dataset")
    parser.set_defaults(run=_filter)


def add_annotations(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "annotations",
        help="annotations to and from CSV and Argilla",
        description="Exports and imports annotations.",
        formatter_class=HelpFormatter,
    )
    steps = parser.add_subparsers(title="steps", required=True, metavar="STEP")
    export = steps.add_parser(
        "export",
        help="write annotations as CSV, or a study's items for Argilla",
        description="CSV: a line for each expression and annotator, with answers, comments and fixes. Argilla: a "
        "folder that argilla.Dataset.from_disk loads, with the items' images, conversations and questions; what is "
        "answered already does not go there.",
        formatter_class=HelpFormatter,
    )
    _add_rated(export)
    export.add_argument("--csv", type=Path, default=None, help="file to write")
    export.add_argument("--argilla", type=folder, default=None, help="new folder to write")
    export.set_defaults(run=_export)
    read = steps.add_parser(
        "import",
        help="read annotations of a CSV file or of Argilla",
        description="Writes OUTPUT/annotators/NAME.jsonl, as fivl annotate does, from a CSV file with the columns of "
        "fivl annotations export, or from records.json of argilla.Dataset.to_disk (answers alone).",
        formatter_class=HelpFormatter,
    )
    read.add_argument("file", metavar="FILE", type=existing_file, help="a .csv file, or Argilla's records.json")
    read.add_argument(
        "--name",
        action="append",
        type=_id_and_name,
        default=[],
        metavar="ID=NAME",
        help="annotator's name for a user id of Argilla; can be repeated",
    )
    read.add_argument("--output", type=folder, required=True, help="new folder")
    read.set_defaults(run=_import)


def _id_and_name(text: str) -> tuple[str, str]:
    """Read "ID=NAME"."""
    id, _, name = text.partition("=")
    if not (id and name):
        raise argparse.ArgumentTypeError(f"ID=NAME, got {text!r}")
    return id, name


def _add_rated(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a dataset and its annotations."""
    parser.add_argument("dataset", metavar="DATASET", help="folder or Hub id")
    parser.add_argument("--annotations", action="append", required=True, type=Path, metavar="PATH", help=_ANNOTATIONS)
    parser.add_argument("--split", default="train", help="the annotated split, with the same slice")
    parser.add_argument("--dataset-config", default=None, help="the dataset's configuration")


def _rows(options: argparse.Namespace) -> Any:
    from fivl_hf.storage import load_rows

    return load_rows(options.dataset, options.split, options.dataset_config)


def _rated(options: argparse.Namespace) -> tuple[Any, Any]:
    """Return rows and ratings."""
    from functools import partial

    from tqdm.auto import tqdm

    from fivl_hf.annotation.ratings import collect_ratings

    rows = _rows(options)
    ratings = collect_ratings(rows, options.annotations, partial(tqdm, desc="read", unit="expression"))
    _tell_changed(len(ratings.changed))
    if ratings.ignored:
        print(f"{ratings.ignored:,} annotations are of expressions as they looked before, and ignored")
    return rows, ratings


def _tell_changed(number: int) -> None:
    if number:
        expressions = "1 expression was" if number == 1 else f"{number:,} expressions were"
        print(f"{expressions} removed from the dataset or changed since, and ignored")


def _agreement(options: argparse.Namespace) -> None:
    from fivl_hf.annotation.agreement import agreement_summary
    from fivl_hf.annotation.items import judge_verdicts
    from fivl_hf.annotation.report import SHORT_QUESTIONS, write_agreement

    rows, ratings = _rated(options)
    verdicts = judge_verdicts(options.judgements) if options.judgements else None
    summary = agreement_summary(ratings, verdicts)
    write_agreement(
        options.output,
        summary,
        ratings,
        rows,
        title=shown_name(options.dataset),
        verdicts=verdicts,
        most=options.gallery,
    )
    people = len(summary["annotators"])
    annotators = f"{people} annotator{'' if people == 1 else 's'}"
    print(f"{summary['expressions']:,} expressions, {annotators}; answers: yes/no/unsure")
    if "disagreement" in summary["strategies"]:
        print("drawn by disagreement with the judge: the shares are not those of the dataset")
    for question, name in SHORT_QUESTIONS.items():
        figures, agreement = summary["shares"][question]["all"], summary["agreement"][question]
        share = "–" if figures["share"] is None else f"{figures['share']:.0%}"
        interval = figures["wilson"]
        bounds = f" [{interval[0]:.0%}, {interval[1]:.0%}]" if interval else ""
        undecided = f", {figures['undecided']} undecided" if figures["undecided"] else ""
        answers = "/".join(str(number) for number in figures["answers"].values())
        alpha = agreement["krippendorff_alpha"]
        beyond = "" if alpha is None else f", Krippendorff's alpha {alpha:.2f}"
        print(f"{name + ':':<27} {share}{bounds} (n {figures['n']}{undecided}; answers {answers}){beyond}")
        if weighted := summary["shares"][question]["of_dataset"]:
            print(f"{'':<27} {weighted['share']:.0%} weighted by how common each mask size and source is")
    print(f"Open {options.output / 'agreement.html'}")


def _filter(options: argparse.Namespace) -> None:
    from tqdm.auto import tqdm

    from fivl_hf.annotation.filtering import Filter, card_front, filtered_description
    from fivl_hf.storage import require_split_name, write_dataset

    split = options.split.partition("[")[0]
    require_split_name(split)
    if Path(options.dataset).is_dir() and options.output.resolve() == Path(options.dataset).resolve():
        raise ValueError("--output is the dataset itself, which its annotations are about: name another folder")
    rows, ratings = _rated(options)
    front = card_front(options.dataset)
    if front is None:
        print(f"the card of {options.dataset} was not read: license and language have to be filled in")
    filtering = Filter(ratings, options.keep, fixes=not options.no_fixes)
    kept = filtering.rows(tqdm(rows, desc="filter", unit="row"))
    write_dataset(
        options.output,
        {split: kept},
        title=f"{shown_name(options.dataset)}, filtered by annotations",
        description=lambda: filtered_description(shown_name(options.dataset), filtering),
        front=front,
    )
    for name, number in filtering.counts.items():
        print(f"{name}: {number:,}")


def _export(options: argparse.Namespace) -> None:
    from fivl_hf.annotation.exchange import export_argilla, export_csv
    from fivl_hf.annotation.items import matching_rows
    from fivl_hf.annotation.study import read_items

    if not (options.csv or options.argilla):
        raise ValueError("name what to write: --csv FILE, --argilla FOLDER, or both")
    rows = None
    if options.csv:
        rows, ratings = _rated(options)
        print(f"{export_csv(options.csv, ratings):,} annotations in {options.csv}")
    if options.argilla:
        rows = rows or _rows(options)
        items = {item.key: item for path in options.annotations for item in read_items(path)}
        if not items:
            raise ValueError("--argilla needs the folder of a study: start fivl annotate once to draw its items")
        numbers, changed = matching_rows(rows, items.values())
        _tell_changed(len(changed))
        count = export_argilla(options.argilla, rows, [(items[key], number) for key, number in numbers.items()])
        print(f"{count:,} records in {options.argilla}; argilla.Dataset.from_disk loads them")


def _import(options: argparse.Namespace) -> None:
    from fivl_hf.annotation.exchange import import_argilla, import_csv

    if options.file.suffix.lower() == ".csv":
        if options.name:
            raise ValueError("--name is for Argilla's user ids; a CSV file has a column for annotators")
        counts = import_csv(options.file, options.output)
    else:
        counts = import_argilla(options.file, options.output, dict(options.name))
    for name, number in counts.items():
        print(f"{name}: {number:,} expressions")
