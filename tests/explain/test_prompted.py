import numpy as np
import pytest
from families import large_rows, make

from fivl_hf.augment.scenes import SceneGrounder, scene_image
from fivl_hf.augment.words import WordFinder
from fivl_hf.explain import prompted
from fivl_hf.explain.prompted import (
    PredictedSegment,
    PromptedScores,
    SegmentFile,
    WordScore,
    predicted_segments,
    prompted_summary,
    score_segments,
)
from fivl_hf.explain.samples import prepare
from fivl_hf.masks import coverage
from fivl_hf.scenes.rendering import scene


class Fixed:
    """Finds what it is told, in any image."""

    thresholds = (0.2, 0.6)

    def __init__(self, **masks):
        self._masks = masks

    def find(self, row_id, image, words):
        return [[self._masks.get(word) for word in words], [None for _ in words]]


def ids(processor, *words):
    return [processor.tokenizer.convert_tokens_to_ids(word) for word in words]


def test_tokens_are_grouped_by_word_and_function_words_are_counted(model, processor, rows, monkeypatch):
    sample = prepare(model, processor, rows[0])
    ring, circle, the, end = ids(processor, "ring", "circle", "the", "</s>")
    stop = ids(processor, ".")[0]
    predicted = np.full(len(sample.image_positions), the)
    predicted[:4], predicted[4:6], predicted[6], predicted[7] = ring, circle, end, stop
    monkeypatch.setattr(prompted, "vision_predictions", lambda *_: predicted)
    segments, left_out, tokens = predicted_segments(model, processor.tokenizer, sample)
    assert [(s.word, s.tokens.nonzero()[0].tolist()) for s in segments] == [("ring", [0, 1, 2, 3]), ("circle", [4, 5])]
    assert left_out == {"function word": 1, "special token": 1, "not a word": 1}
    assert tokens == 5

    # "ring" is found in the upper half of the image, which covers all four of its tokens and others that predict
    # something else.
    size = sample.images[0].size
    upper = np.zeros((size[1], size[0]), dtype=bool)
    upper[: size[1] // 2] = True
    covered = (sample.boxes[:, 1] < size[1] // 2).sum()
    scores, masks = score_segments(sample, segments, Fixed(ring=upper))
    assert scores == (WordScore("ring", (4 / covered, None)), WordScore("circle", (None, None)))
    assert masks[0][0] is upper
    assert masks[1] == [None, None]


def test_scenes_are_found_exactly(model, processor, rows):
    """Predictions that are right for every patch get an IoU of 1."""
    sample = prepare(model, processor, rows[0])
    thing = scene(sample.id).objects[0]
    finder = WordFinder({None: SceneGrounder()}, scene_image)
    tokens = coverage(thing.mask()[None], sample.boxes)[0] > 0
    segments = [PredictedSegment(0, thing.shape, tokens), PredictedSegment(0, "elephant", tokens)]
    scores, _ = score_segments(sample, segments, finder)
    assert scores == (WordScore(thing.shape, (1.0,)), WordScore("elephant", (None,)))


def test_a_model_without_visual_tokens_in_its_sequence_is_refused(rows):
    processor, model = make("Mllama")
    sample = prepare(model, processor, large_rows(rows[:1])[0])
    with pytest.raises(ValueError, match="do not stand in the sequence"):
        predicted_segments(model, processor.tokenizer, sample)


def test_the_summary_by_hand():
    """Two rows, three words: two of them found at 0.2, one at 0.6."""
    rows = [
        PromptedScores("a", 5, (WordScore("cat", (0.5, 0.9)), WordScore("dog", (None, None))), {"not a word": 2}),
        PromptedScores("b", 2, (WordScore("cat", (0.1, None)),), {"not a word": 1}),
        PromptedScores("c", problem="no image"),
    ]
    summary = prompted_summary(rows, (0.2, 0.6))
    low, high = summary["by_threshold"]["0.2"], summary["by_threshold"]["0.6"]
    assert (low["iou"], low["found"], low["share_found"]) == (pytest.approx(0.3), 2, pytest.approx(2 / 3))
    assert (high["iou"], high["found"], high["share_found"]) == (0.9, 1, pytest.approx(1 / 3))
    # Of 0.5 and 0.1, four resamples: 0.1, 0.3, 0.3, 0.5.
    assert low["confidence_interval"] == [pytest.approx(0.115), pytest.approx(0.485)]
    assert (summary["n"], summary["tokens_per_sample"], summary["words_per_sample"]) == (2, 3.5, 1.5)
    assert summary["left_out"] == {"not a word": 3}
    assert summary["problems"] == {"c": "no image"}
    empty = prompted_summary([], (None,))
    assert (empty["n"], empty["by_threshold"]["exact"]["iou"]) == (0, None)


def test_scores_are_kept(tmp_path):
    row = PromptedScores("a", 5, (WordScore("cat", (0.5, None)),), {"not a word": 2})
    file = SegmentFile(tmp_path / "s.jsonl")
    file.add(PromptedScores("a", problem="no image"))
    assert SegmentFile(tmp_path / "s.jsonl").known == set()
    file.add(row)
    again = SegmentFile(tmp_path / "s.jsonl")
    assert (list(again), again.known) == ([row], {"a"})
    (tmp_path / "s.jsonl").write_text('{"id": 3}\n')
    with pytest.raises(ValueError, match="line 1, is not a row's segments"):
        SegmentFile(tmp_path / "s.jsonl")
