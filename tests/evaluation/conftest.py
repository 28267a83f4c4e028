"""TODO."""

import pytest


@pytest.fixture
def same_answer(monkeypatch):
    """Every question is answered with x."""

    def answers(model, processor, asks, **options):
        return ((number, "x") for number in range(len(asks)))

    monkeypatch.setattr("fivl_hf.evaluation.runner.generate_answers", answers)
