"""Is it the evidence, or any hole in the image? The score of evidence boxes against many draws of random boxes.

python examples/random_masks.py --model MODEL --dataset fivl-pope --split adversarial --draws 20 --output random-masks

Asks every question on the original image, with the evidence black, and with each draw of random boxes of the same
sizes black. If it is interrupted, run it again: what is answered is not asked again.
"""

import argparse
from pathlib import Path

import numpy as np

from fivl_hf.evaluation.answerers.local import TransformersAnswerer
from fivl_hf.evaluation.results import write_evaluation
from fivl_hf.evaluation.runner import evaluate_answers
from fivl_hf.evaluation.table import AnswerTable, answers_file, read_answers
from fivl_hf.files.atomic import write_json
from fivl_hf.models import load_model
from fivl_hf.storage import load_rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model folder or Hub id")
    parser.add_argument("--dataset", required=True, help="row dataset: folder or Hub id")
    parser.add_argument("--split", default="test", help="split of the dataset")
    parser.add_argument("--draws", type=int, default=20, help="draws of random boxes")
    parser.add_argument("--output", type=Path, default=Path("random-masks"), help="folder for the results")
    options = parser.parse_args()
    if options.draws < 1:
        parser.error("--draws must be at least 1")

    rows = load_rows(options.dataset, options.split)
    answerer = TransformersAnswerer(*load_model(options.model))
    evidence = write_evaluation(
        lambda: answerer,
        rows,
        options.output,
        model_name=options.model,
        dataset=options.dataset,
        split=options.split,
        conditions=["original", "removed"],
    )
    score = evidence["visual_reliance_score"]
    if score is None:
        raise SystemExit(f"nothing can be lost: {evidence['reason']}")
    original = [each for each in read_answers(answers_file(options.output)) if each.condition == "original"]
    draws, conditions = [], ["original", "random"]
    for seed in range(options.draws):
        table = AnswerTable(options.output / f"draw-{seed}.jsonl")
        table.add(original)
        summary, _ = evaluate_answers(answerer, rows, table=table, conditions=conditions, seed=seed, resamples=1)
        draws.append(float(summary["conditions"]["random"]["reliance"]))
    # One-sided permutation test: the evidence boxes count as one draw.
    p = (1 + sum(loss >= score for loss in draws)) / (1 + len(draws))
    result = {"visual_reliance_score": score, "random": draws, "p": p}
    write_json(options.output / "random_masks.json", result)
    print(f"evidence boxes lose {score:.3f} of the right answers")
    print(f"random boxes lose {np.mean(draws):.3f} (from {min(draws):.3f} to {max(draws):.3f} in {len(draws)} draws)")
    print(f"p = {p:.3f}")


if __name__ == "__main__":
    main()
