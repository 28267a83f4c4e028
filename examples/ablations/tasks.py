"""Which tasks gain? Questions by kind, and captions, from the pretrained start with free places.

python examples/ablations/tasks.py
"""

from study import arguments, measured, subset_size
from tables import publish
from vision_modeling import SETTINGS

from fivl_hf.scenes.questions import QUESTION_KINDS

PAIR = {f"λ = {weight}": SETTINGS[f"free, λ = {weight}"] for weight in ("0", "0.1")}
COMPARED = {"difference": ("λ = 0.1", "λ = 0")}


def main() -> None:
    options = arguments(__doc__)
    accuracies = [f"accuracy, {kind}" for kind in QUESTION_KINDS]
    results = measured(options, PAIR)
    results |= {
        f"{label}, grey image": [{column: run[f"{column}, grey image"] for column in accuracies} for run in runs]
        for label, runs in results.items()
    }
    columns = [*accuracies, "BLEU", "ROUGE-L", "perplexity"]
    each, captions = options.test_rows // len(QUESTION_KINDS), subset_size(options.test_rows)
    note = f"Accuracy is of {each} questions of each kind, the last three columns are of {captions} captions."
    publish(options, "tasks", "Vision Modeling by task", results, columns, "λ", COMPARED, note=note)


if __name__ == "__main__":
    main()
