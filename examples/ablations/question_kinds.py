"""Does the model look at the evidence of every kind of question? Reliance and heads by kind, with free places.

python examples/ablations/question_kinds.py

Heads are chosen by AUROC on one half of each kind's questions and measured on the other. Segmentation is not split:
image tokens come before the question, which they do not see.
"""

from typing import Any

from study import TEST_SEED, Setting, arguments, for_each_model
from tables import publish
from tasks import COMPARED, PAIR

from fivl_hf.scenes.questions import QUESTION_KINDS

EACH = 150  # questions of each kind


def main() -> None:
    options = arguments(__doc__)
    results = for_each_model(options, PAIR, "question_kinds", _by_kind)
    columns = [f"{measure}, {kind}" for measure in ("VRS", "AUROC") for kind in QUESTION_KINDS]
    publish(
        options,
        "question_kinds",
        "Reliance and heads by kind of question",
        results,
        columns,
        "λ",
        COMPARED,
        note="AUROC is of those whose answer has evidence.",
        questions=f"{EACH} questions of each kind",
    )


def _by_kind(setting: Setting, model: Any, processor: Any) -> dict[str, float | None]:
    from fivl_hf.augment.scenes import scene_questions
    from fivl_hf.evaluation.runner import evaluate_reliance
    from fivl_hf.explain.analysis import explain

    figures: dict[str, float | None] = {}
    for kind in QUESTION_KINDS:
        rows = list(scene_questions("test", EACH, TEST_SEED, style=setting.test_style, kinds=(kind,)))
        reliance, _ = evaluate_reliance(model, processor, rows, batch_size=128, max_new_tokens=16, resamples=10)
        figures[f"VRS, {kind}"] = reliance["visual_reliance_score"]
        figures[f"AUROC, {kind}"] = explain(model, processor, rows, batch_size=64).measures["auroc"]["held_out"][
            "value"
        ]
    return figures


if __name__ == "__main__":
    main()
