import json

import pytest
from builder_sources import DOG, coco_name, gqa, pope, vqav2

from fivl_hf.cli.main import main
from fivl_hf.masks import decode_mask
from fivl_hf.storage import load_rows


def test_pope_marks_what_is_there_and_keeps_what_is_not(build, tmp_path):
    build("fivl_pope", tmp_path / "out", **pope(tmp_path))
    rows = {row["id"]: row for row in load_rows(tmp_path / "out", "popular")}
    assert set(rows) == {str(number) for number in range(1, 7)}
    there, absent = rows["1"], rows["2"]
    x, y, width, height = DOG
    assert [each["text"] for each in there["key_expressions"]] == ["dog"]
    assert there["key_expressions"][0]["start"] == -1
    assert there["key_expressions"][0]["boxes"] == [[x, y, x + width, y + height]]
    assert decode_mask(there["masks"][0]).sum() == width * height
    assert (there["answers"], there["category"]) == (["yes"], "yes/popular")
    assert (absent["key_expressions"], absent["masks"], absent["answers"]) == ([], [], ["no"])
    assert absent["images"][0]["bytes"] == (tmp_path / "val2014" / coco_name(1)).read_bytes()


def test_vqa_has_ten_answers_the_usual_one_first(build, tmp_path):
    build("fivl_vqav2", tmp_path / "out", **vqav2(tmp_path))
    row = load_rows(tmp_path / "out", "validation")[0]
    assert row["answers"] == ["brown"] * 7 + ["tan"] * 3
    assert "dog" in [each["text"] for each in row["key_expressions"]]


def test_gqa_takes_boxes_of_scene_graphs(build, tmp_path):
    build("fivl_gqa", tmp_path / "out", **gqa(tmp_path))
    row = load_rows(tmp_path / "out", "validation")[0]
    assert (row["id"], row["category"]) == ("00", "query")
    x, y, width, height = DOG
    assert row["key_expressions"][0]["boxes"] == [[x, y, x + width, y + height]]


@pytest.fixture
def augmented(tmp_path):
    """POPE's files, and rows that `fivl augment` makes of the adversarial questions."""
    pope(tmp_path)
    status = main(
        [
            *("augment", "--input", str(tmp_path / "coco_pope_adversarial.json"), "--split", "adversarial"),
            *("--images", str(tmp_path / "val2014"), "--output", str(tmp_path / "rows")),
            *("--extractor", "offline", "--grounder", "annotations"),
            *("--annotations", str(tmp_path / "instances_val2014.json"), "--workers", "1"),
        ]
    )
    assert status == 0
    (tmp_path / "instances_val2014.json").unlink()
    return tmp_path


def test_evidence_comes_from_rows_by_fivl_augment(augmented, build):
    options = {"data_dir": str(augmented), "evidence": (str(augmented / "rows"),), "splits": ("adversarial",)}
    build("fivl_pope", augmented / "out", **options)
    built = {row["id"]: row for row in load_rows(augmented / "out", "adversarial")}
    rows = {row["id"]: row for row in load_rows(augmented / "rows", "adversarial")}
    assert set(rows) == {"1", "3", "5"}
    assert set(built) == {str(number) for number in range(1, 7)}
    for id, row in built.items():
        assert row["key_expressions"] == (rows[id]["key_expressions"] if id in rows else [])
        assert row["masks"] == (rows[id]["masks"] if id in rows else [])


def test_evidence_of_another_split_or_other_questions_is_refused(augmented, build):
    evidence = {"data_dir": str(augmented), "evidence": (str(augmented / "rows"),)}
    with pytest.raises(ValueError, match="must have one split 'popular', found .*adversarial.*--split popular"):
        build("fivl_pope", augmented / "out", **evidence)
    path = augmented / "coco_pope_adversarial.json"
    path.write_text(path.read_text().replace("Is there a dog", "Can you see a dog"))
    with pytest.raises(ValueError, match="is evidence of other questions: 1 is 'Is there a dog"):
        build("fivl_pope", augmented / "out", **evidence, splits=("adversarial",))
    assert not (augmented / "out").exists()


def test_evidence_of_conversations_is_refused(augmented, build, tmp_path):
    from fivl_hf.augment.scenes import scene_rows
    from fivl_hf.storage import write_dataset

    write_dataset(tmp_path / "talk", {"adversarial": scene_rows("train", 3)}, title="T", description="D")
    with pytest.raises(ValueError, match="holds conversations"):
        build(
            "fivl_pope",
            tmp_path / "out",
            data_dir=str(augmented),
            evidence=(str(tmp_path / "talk"),),
            splits=("adversarial",),
        )


def test_missing_images_fail_the_build_and_can_be_mended(build, tmp_path):
    options = pope(tmp_path)
    image = tmp_path / "val2014" / coco_name(1)
    data = image.read_bytes()
    image.unlink()
    with pytest.raises(ValueError, match="6 of 18 samples failed.*the image is missing.*--retry-failed"):
        build("fivl_pope", tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
    image.write_bytes(data)
    build("fivl_pope", tmp_path / "out", **options, settings={"retry_failed": True})
    assert len(load_rows(tmp_path / "out", "random")) == 6


def test_a_file_of_another_benchmark_is_refused(build, tmp_path):
    vqav2(tmp_path)
    (tmp_path / "coco_pope_random.json").write_bytes(
        (tmp_path / "v2_OpenEnded_mscoco_val2014_questions.json").read_bytes()
    )
    with pytest.raises(ValueError, match="is not a file of pope questions; it looks like vqa"):
        build("fivl_pope", tmp_path / "out", data_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"info": {"version": "1.0"}}, "info.version 2.0, but .* of 1.0"),
        ({"data_subtype": "train2014"}, "data_subtype val2014, but .* of train2014"),
    ],
)
def test_questions_and_annotations_that_do_not_go_together(build, tmp_path, change, message):
    options = vqav2(tmp_path)
    path = tmp_path / "v2_mscoco_val2014_annotations.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=message):
        build("fivl_vqav2", tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_no_evidence_at_all_says_what_to_do(build, tmp_path):
    options = pope(tmp_path)
    (tmp_path / "instances_val2014.json").unlink()
    with pytest.raises(ValueError, match="instances_.*json.*fivl augment"):
        build("fivl_pope", tmp_path / "out", **options)


def test_evidence_with_other_ids_is_refused_and_rows_left_over_are_counted(augmented, build):
    path = augmented / "coco_pope_adversarial.json"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    options = {"data_dir": str(augmented), "evidence": (str(augmented / "rows"),), "splits": ("adversarial",)}
    path.write_text("".join(json.dumps({**line, "question_id": line["question_id"] + 100}) + "\n" for line in lines))
    with pytest.raises(ValueError, match="evidence of other questions: no id is in"):
        build("fivl_pope", augmented / "out", **options)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines[:4]))
    result = build("fivl_pope", augmented / "out", **options)
    assert (result.tally.kept, result.tally.dropped) == (4, {"no question has the id of this evidence": 1})


def test_annotations_must_cover_every_split(build, tmp_path):
    options = gqa(tmp_path)
    questions = (tmp_path / "val_balanced_questions.json").read_text()
    (tmp_path / "testdev_balanced_questions.json").write_text(questions)
    with pytest.raises(ValueError, match="holds val_sceneGraphs.json, but no testdev_sceneGraphs.json.*fivl augment"):
        build("fivl_gqa", tmp_path / "out", **options)
    build("fivl_gqa", tmp_path / "out", **options, splits=("validation",))
    assert len(load_rows(tmp_path / "out", "validation")) == 6


def test_downloaded_folders_may_hold_more_than_is_built(build, tmp_path):
    options = gqa(tmp_path)
    for name in ("val_all", "test_balanced", "challenge_all", "submission_all"):
        (tmp_path / f"{name}_questions.json").write_text("{}")
    build("fivl_gqa", tmp_path / "out", **options)
    assert len(load_rows(tmp_path / "out", "validation")) == 6
    (tmp_path / "vqa").mkdir()
    options = vqav2(tmp_path / "vqa")
    (tmp_path / "vqa" / "v2_OpenEnded_mscoco_test2015_questions.json").write_text("{}")
    build("fivl_vqav2", tmp_path / "vqa-out", **options)
    (tmp_path / "vqa" / "v2_Other_mscoco_val2014_questions.json").write_text("{}")
    with pytest.raises(ValueError, match="several files for the questions"):
        build("fivl_vqav2", tmp_path / "vqa-out", **options, settings={"restart": True})


def test_other_benchmarks_on_coco_are_not_pope(build, tmp_path):
    options = pope(tmp_path)
    (tmp_path / "aokvqa_pope_seem_random.json").write_text("{}")
    build("fivl_pope", tmp_path / "out", **options)
    assert len(load_rows(tmp_path / "out", "random")) == 6


def test_wrong_questions_fail_with_what_is_wrong(build, tmp_path):
    options = pope(tmp_path)
    path = tmp_path / "coco_pope_random.json"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line, change in zip(lines, ({"label": "maybe"}, {"text": " "}, {"question_id": None}), strict=False):
        line.update(change)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ValueError, match="3 of 6 samples failed"):
        build("fivl_pope", tmp_path / "out", **options, splits=("random",))
    problems = (tmp_path / "out.work" / "problems.jsonl").read_text()
    for reason in ("neither yes nor no", "question and answers are not text", "'question_id' is missing"):
        assert reason in problems


def test_a_question_id_twice_fails(build, tmp_path):
    options = pope(tmp_path)
    path = tmp_path / "coco_pope_random.json"
    path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")
    with pytest.raises(ValueError, match="1 of 7 samples failed.*the question id was there already"):
        build("fivl_pope", tmp_path / "out", **options, splits=("random",))


def test_exchanged_vqa_files_are_named(build, tmp_path):
    options = vqav2(tmp_path)
    questions = tmp_path / "v2_OpenEnded_mscoco_val2014_questions.json"
    annotations = tmp_path / "v2_mscoco_val2014_annotations.json"
    content = questions.read_text()
    questions.write_text(annotations.read_text())
    annotations.write_text(content)
    with pytest.raises(ValueError, match="holds no questions; was it exchanged with"):
        build("fivl_vqav2", tmp_path / "out", **options)


def test_annotations_of_another_image_fail(build, tmp_path):
    options = vqav2(tmp_path)
    path = tmp_path / "v2_mscoco_val2014_annotations.json"
    content = json.loads(path.read_text())
    content["annotations"][2]["image_id"] = 99
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="1 of 6 samples failed.*the annotations name another image"):
        build("fivl_vqav2", tmp_path / "out", **options)
