"""Small benchmarks of scenes on disk, and a model whose own answers are the right ones to most of their questions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from fivl_hf.schema import BENCHMARK_FEATURES

__all__ = ["as_benchmark", "own_answers", "write_benchmark"]


def as_benchmark(
    rows: Sequence[Mapping[str, Any]], source: str = "GQA", answers: Mapping[str, list[str]] | None = None
) -> list[dict[str, Any]]:
    """Turn the first questions of conversation rows into a benchmark's; the evidence is that of the whole question."""
    return [_question(row, source, (answers or {}).get(row["id"], ["yes"])) for row in rows]


def _question(row: Mapping[str, Any], source: str, answers: list[str]) -> dict[str, Any]:
    asked = row["messages"][0]["content"]
    evidence = zip(row["key_expressions"], row["masks"], strict=True)
    first = [(expression, mask) for expression, mask in evidence if expression["turn"] == 0]
    return {
        "id": row["id"],
        "images": row["images"],
        "question": asked,
        "answers": answers,
        "category": "",
        "key_expressions": [{**expression, "start": -1, "end": -1, "text": asked} for expression, _ in first],
        "masks": [mask for _, mask in first],
        "source": source,
    }


def own_answers(model: Any, processor: Any, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return what a model answers to three of four questions on the original images, asked as a benchmark's."""
    from fivl_hf.evaluation.answerers.local import TransformersAnswerer
    from fivl_hf.evaluation.runner import evaluate_answers

    answerer = TransformersAnswerer(model.eval(), processor, batch_size=1)
    _, table = evaluate_answers(answerer, as_benchmark(rows), conditions=["original"])
    return {answer.id: [answer.answer] for number, answer in enumerate(table) if number % 4}


def write_benchmark(folder: Path, split: str, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write benchmark rows as a folder that ``load_dataset`` reads."""
    Dataset.from_list(list(rows), features=BENCHMARK_FEATURES).to_parquet(folder / f"{split}.parquet")
    (folder / "README.md").write_text(
        f"---\nconfigs:\n- config_name: default\n  data_files:\n  - split: {split}\n    path: {split}.parquet\n---\n"
    )
    return folder
