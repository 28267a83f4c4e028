"""Measure any model's visual reliance and find its aligned heads, in a few lines of Python.

python examples/measure_reliance.py --model demo/models/fivl --dataset demo/fivl --limit 100
"""

import argparse

from fivl_hf.evaluation.runner import evaluate_reliance
from fivl_hf.explain.alignment import top_heads
from fivl_hf.explain.analysis import explain
from fivl_hf.models import load_model
from fivl_hf.storage import load_rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model folder or Hub id")
    parser.add_argument("--dataset", required=True, help="row dataset: folder or Hub id")
    parser.add_argument("--limit", type=int, default=100, help="rows to use")
    options = parser.parse_args()

    model, processor = load_model(options.model)
    rows = load_rows(options.dataset, f"test[:{options.limit}]")
    summary, answers = evaluate_reliance(model, processor, rows)
    print(
        {key: summary[key] for key in ("accuracy", "masked_accuracy", "visual_reliance_score", "confidence_interval")}
    )
    wrong = next((answer for answer in answers if answer.score and not answer.masked_score), None)
    if wrong:
        print(f"{wrong.question} {wrong.answer!r}; without the evidence {wrong.masked_answer!r}")
    print(top_heads(explain(model, processor, rows).alignment.mean(), 3))


if __name__ == "__main__":
    main()
