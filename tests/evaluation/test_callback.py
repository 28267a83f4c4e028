"""Visual reliance beside TRL's metrics during training."""

import pytest
from datasets import Dataset

from fivl_hf import FiVLTrainer
from fivl_hf.evaluation.answerers.local import TransformersAnswerer
from fivl_hf.evaluation.callback import VisualRelianceCallback
from fivl_hf.evaluation.runner import evaluate_answers
from fivl_hf.schema import FEATURES


def trainer_of(model, processor, config, rows, **options):
    data = Dataset.from_list(rows, features=FEATURES)
    return FiVLTrainer(
        model=model,
        args=config(**options),
        train_dataset=data,
        eval_dataset=data.select(range(4)),
        processing_class=processor,
    )


def test_the_score_is_logged_at_each_evaluation(model, processor, config, rows):
    options = {"max_steps": 4, "eval_strategy": "steps", "eval_steps": 2, "logging_steps": 1}
    trainer = trainer_of(model, processor, config, rows[:8], **options)
    # What the model answers now is right, so that there is something to lose.
    asked = rows[:6]
    _, table = evaluate_answers(TransformersAnswerer(model, processor), asked, conditions=["original"])
    answers = {answer.id: answer.answer for answer in table}
    own = [
        {
            **row,
            "messages": [row["messages"][0], {"role": "assistant", "content": answers[row["id"]] or "x"}],
            "key_expressions": [
                {**each, "start": -1, "end": -1, "text": row["messages"][0]["content"]}
                for each in row["key_expressions"]
                if each["turn"] == 0
            ],
            "masks": row["masks"][: sum(each["turn"] == 0 for each in row["key_expressions"])],
        }
        for row in asked
    ]
    callback = VisualRelianceCallback(trainer, own, questions=5, batch_size=2)
    trainer.add_callback(callback)
    metrics = trainer.evaluate()
    assert metrics["eval_reliance_accuracy"] == 1.0
    expected, _ = evaluate_answers(TransformersAnswerer(model, processor, batch_size=2), own[:5])
    assert metrics["eval_visual_reliance_score"] == expected["visual_reliance_score"]
    assert metrics["eval_random_reliance_score"] == expected["random_reliance_score"]
    assert "eval_loss" in metrics
    assert not model.training
    # Once more, as after the best checkpoint was loaded.
    assert trainer.evaluate()["eval_visual_reliance_score"] == expected["visual_reliance_score"]
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "eval_reliance_accuracy" in entry]
    assert [entry["step"] for entry in logged] == [2, 4]


def test_rows_are_needed(model, processor, config, rows):
    with pytest.raises(ValueError, match="there are no rows to measure"):
        VisualRelianceCallback(trainer_of(model, processor, config, rows[:4]), [])
