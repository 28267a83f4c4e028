"""The benchmarks' own question files as conversations of one turn: POPE, VQA v2, GQA."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fivl_hf.augment.inputs.conversations import Conversation, image_file
from fivl_hf.files.disk_table import DiskTable
from fivl_hf.files.json_stream import json_items, json_lines, json_members, leading_events
from fivl_hf.images import ImageError
from fivl_hf.jobs.outcomes import Failure

__all__ = ["gqa_questions", "pope_questions", "vqa_questions"]

Question = Conversation | Failure


def pope_questions(path: Path, roots: Sequence[Path]) -> Iterator[Question]:
    """Read POPE's questions, JSON Lines of ``{"question_id", "image", "text", "label"}``.

    A category is the label and the file's split, such as "yes/adversarial" in ``coco_pope_adversarial.json``.
    """
    kind = path.stem.rsplit("_", 1)[-1]
    for number, item in json_lines(path):
        fields = ("question_id", "image", "text", "label")
        if problem := _problem(item, fields):
            yield Failure(f"line {number}", "the entry is not a question", problem)
            continue
        if item["label"] not in ("yes", "no"):
            yield Failure(str(item["question_id"]), "the label is neither yes nor no", repr(item["label"])[:100])
            continue
        category = f"{item['label']}/{kind}"
        yield _question(
            str(item["question_id"]), item["image"], item["text"], (item["label"],), roots, category, "POPE"
        )


def vqa_questions(path: Path, annotations: Path | None, roots: Sequence[Path]) -> Iterator[Question]:
    """VQA v2: the questions file and the annotations file with ten answers to each; the usual answer comes first.

    Raises:
        ValueError: no annotations file, or files that do not belong together.
    """
    if annotations is None:
        raise ValueError(f"{path} holds VQA questions: name their annotations file with --vqa-answers")
    subset = _member(path, "data_subtype")
    for name, mine in (("data_subtype", subset), ("info.version", _member(path, "info.version"))):
        if mine and (other := _member(annotations, name)) not in (None, mine):
            raise ValueError(f"{path} is of {name} {mine}, but {annotations} of {other}: they do not go together")
    entries = json_items(annotations, "annotations.item")
    known = (entry for entry in entries if isinstance(entry, Mapping))
    answers = DiskTable().fill((str(entry.get("question_id")), _vqa_answers(entry)) for entry in known)
    number = -1
    for number, item in enumerate(json_items(path, "questions.item")):
        if problem := _problem(item, ("question_id", "image_id", "question")):
            yield Failure(f"question {number}", "the entry is not a question", problem)
            continue
        id = str(item["question_id"])
        found = answers.get(id)
        if not found or not found["answers"]:
            yield Failure(id, "no answer in the annotations file", str(annotations))
            continue
        image = item["image_id"]
        if found["image"] not in (None, image):
            yield Failure(id, "the annotations name another image", f"{found['image']}, not {image}")
            continue
        name = f"COCO_{subset}_{image:012d}.jpg" if isinstance(image, int) else str(image)
        yield _question(id, name, item["question"], tuple(found["answers"]), roots, found["category"], "VQAv2")
    if number < 0:
        raise ValueError(f"{path} holds no questions; was it exchanged with {annotations}?")


def gqa_questions(path: Path, roots: Sequence[Path]) -> Iterator[Question]:
    """GQA: ``{question id: {"question", "imageId", "answer", "types": {"structural", ...}}}``."""
    for id, item in json_members(path):
        if problem := _problem(item, ("imageId", "question", "answer")):
            yield Failure(id, "the entry is not a question", problem)
            continue
        types = item.get("types")
        category = str(types.get("structural", "")) if isinstance(types, Mapping) else ""
        yield _question(id, f"{item['imageId']}.jpg", item["question"], (item["answer"],), roots, category, "GQA")


def _question(
    id: str, image: Any, question: Any, answers: tuple[Any, ...], roots: Sequence[Path], category: str, source: str
) -> Question:
    try:
        source_image = image_file(image, roots or (Path(),))
    except ImageError as error:
        return Failure(id, "the image path is not allowed", str(error))
    if not all(isinstance(text, str) and text.strip() for text in (question, *answers)):
        return Failure(id, "question and answers are not text", repr((question, answers))[:200])
    messages = ({"role": "user", "content": question.strip()}, {"role": "assistant", "content": answers[0]})
    return Conversation(id, (source_image,), messages, source, answers, category)


def _problem(item: Any, fields: Sequence[str]) -> str | None:
    """Return what keeps an entry from being a question."""
    if isinstance(item, ValueError):
        return str(item)
    if not isinstance(item, Mapping):
        return f"{type(item).__name__} in place of an object"
    missing = [field for field in fields if item.get(field) is None]
    return f"'{missing[0]}' is missing; found {sorted(item)[:10]}" if missing else None


def _vqa_answers(entry: Mapping[str, Any]) -> dict[str, Any]:
    usual = entry.get("multiple_choice_answer")
    listed = entry.get("answers")
    found = [
        answer.get("answer") for answer in (listed if isinstance(listed, list) else ()) if isinstance(answer, dict)
    ]
    given = [answer for answer in (found or [usual]) if isinstance(answer, str) and answer]
    # The usual answer is the turn's answer; sorting is stable, so all ten stay.
    return {
        "answers": sorted(given, key=lambda answer: answer != usual),
        "category": str(entry.get("answer_type") or ""),
        "image": entry.get("image_id"),
    }


def _member(path: Path, name: str) -> str | None:
    """Return a text near the beginning of a JSON file's top-level object."""
    for prefix, event, value in leading_events(path, 60):
        if prefix == name and event == "string":
            return str(value)
    return None
