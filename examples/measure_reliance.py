"""Measure any model's visual reliance and find its aligned heads, in a few lines of Python.

python examples/measure_reliance.py --model demo/models/fivl --dataset demo/fivl --limit 100
"""

import argparse

from fivl_hf.evaluation.runner import evaluate_reliance
from fivl_hf.evaluation.table import ORIGINAL, REMOVED, by_question
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
    summary, table = evaluate_reliance(model, processor, rows)
    print(
        {key: summary[key] for key in ("accuracy", "masked_accuracy", "visual_reliance_score", "confidence_interval")}
    )
    for answers in by_question(table).values():
        if REMOVED in answers and answers[ORIGINAL].score > answers[REMOVED].score:
            original, removed = answers[ORIGINAL], answers[REMOVED]
            print(f"{original.prompt} {original.answer!r}; without the evidence {removed.answer!r}")
            break
    for head in explain(model, processor, rows).best_heads(3):
        print(head)


if __name__ == "__main__":
    main()
