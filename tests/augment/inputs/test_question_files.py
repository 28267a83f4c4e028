import json

import pytest
from conversation_files import read, write

from fivl_hf.jobs.outcomes import Failure


def test_pope(tmp_path, images):
    line = {"question_id": 1, "image": "COCO_val2014_1.jpg", "text": "Is there a dog in the image?", "label": "yes"}
    path = write(tmp_path / "coco_pope_adversarial.json", json.dumps(line) + "\n" + json.dumps({"question_id": 2}))
    good, bad = read(path, images=images)
    assert (good.id, good.category, good.answers, good.source) == ("1", "yes/adversarial", ("yes",), "POPE")
    assert "'image' is missing" in bad.detail


def test_vqa(tmp_path, images):
    head = {"info": {}, "task_type": "Open-Ended", "data_type": "mscoco", "data_subtype": "val2014"}
    questions = [{"image_id": 42, "question": "What is it?", "question_id": n} for n in (420, 421)]
    ten = [{"answer": word, "answer_id": i} for i, word in enumerate(["dog"] * 4 + ["cat"] * 6)]
    annotation = {"question_id": 420, "multiple_choice_answer": "cat", "answers": ten, "answer_type": "other"}
    path = write(tmp_path / "questions.json", {**head, "questions": questions})
    answers = write(tmp_path / "annotations.json", {"data_subtype": "val2014", "annotations": [annotation]})
    good, bad = read(path, images=images, answers=answers)
    assert good.images[0].name == "COCO_val2014_000000000042.jpg"
    assert good.answers == ("cat",) * 6 + ("dog",) * 4
    assert good.messages[-1]["content"] == "cat"
    assert bad.reason == "no answer in the annotations file"
    with pytest.raises(ValueError, match="name their annotations file"):
        read(path, images=images)
    other = write(tmp_path / "other.json", {"data_subtype": "train2014", "annotations": []})
    with pytest.raises(ValueError, match="val2014.*train2014"):
        read(path, images=images, answers=other)


def test_gqa(tmp_path, images):
    item = {"imageId": "n16", "question": "Is it red?", "answer": "yes", "types": {"structural": "verify"}}
    path = write(tmp_path / "val_balanced_questions.json", {"0512": item, "0513": {"question": "?"}})
    good, bad = read(path, images=images)
    assert (good.id, good.images[0].name, good.category) == ("0512", "n16.jpg", "verify")
    assert isinstance(bad, Failure)
