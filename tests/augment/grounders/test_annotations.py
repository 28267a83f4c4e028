import json

import numpy as np
import pytest
from grounding_requests import noise, request, square
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from fivl_hf.augment.grounders.annotations import (
    AnnotatedObject,
    AnnotationsGrounder,
    index_annotations,
    matching_objects,
)
from fivl_hf.augment.grounding import (
    GroundingRequest,
)
from fivl_hf.augment.inputs.conversations import StoredImage
from fivl_hf.images import image_bytes, open_image


def thing(name, *attributes):
    return AnnotatedObject(name, attributes, [0, 0, 5, 5], (20, 20))


@pytest.mark.parametrize(
    ("expression", "names", "expected"),
    [
        ("two dogs", ["dog", "cat"], ["dog"]),
        ("three women", ["person", "dog"], ["person"]),
        ("the man with a hat", ["hat", "person"], ["person"]),
        ("tennis racket", ["racket", "tennis racket"], ["tennis racket"]),
        ("bowl of fruit", ["fruit", "bowl"], ["bowl"]),
        ("motorbikes", ["motorcycle", "bicycle"], ["motorcycle"]),
        ("skis", ["skis", "person"], ["skis"]),
        ("a wine glass", ["wine glass", "cup"], ["wine glass"]),
        ("hot dog", ["dog"], ["dog"]),
        ("sky", ["skis"], []),
        ("beautiful", ["dog"], []),
        ("dogs", [], []),
        ("skier", ["person"], ["person"]),
    ],
)
def test_expressions_find_annotated_objects_by_noun(expression, names, expected):
    assert [t.name for t in matching_objects(expression, [thing(name) for name in names])] == expected


def test_an_absent_object_is_not_another_whose_name_ends_alike(tmp_path):
    """A teddy bear that is nowhere in the image is not the bear that is."""
    coco = {
        "images": [{"id": i, "file_name": f"00000000000{i}.jpg", "width": 20, "height": 20} for i in (1, 2)],
        "annotations": [
            {"image_id": 1, "category_id": 1, "bbox": [5, 5, 3, 4]},
            {"image_id": 2, "category_id": 2, "bbox": [1, 1, 3, 4]},
        ],
        "categories": [{"id": 1, "name": "bear"}, {"id": 2, "name": "teddy bear"}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(coco))
    index_annotations([tmp_path / "instances.json"], tmp_path / "index.sqlite")
    grounder = AnnotationsGrounder(tmp_path / "index.sqlite")
    asked = ("teddy bear", "bear", "two bears")
    found = grounder.ground([request("1", noise(20, 20), *asked, name="000000000001.jpg")])
    assert [each is not None for each in found[0]] == [False, True, True]


def test_images_of_the_same_number_elsewhere_get_no_evidence(tmp_path):
    coco = {
        "images": [{"id": 9, "file_name": "000000002370.jpg", "width": 20, "height": 20}],
        "annotations": [{"image_id": 9, "category_id": 1, "bbox": [5, 5, 3, 4], "segmentation": []}],
        "categories": [{"id": 1, "name": "dog"}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(coco))
    index_annotations([tmp_path / "instances.json"], tmp_path / "index.sqlite")
    grounder = AnnotationsGrounder(tmp_path / "index.sqlite")
    names = ("coco/train2017/000000002370.jpg", "vg/VG_100K/2370.jpg", "gqa/images/2370.jpg")
    found = grounder.ground([request(name, noise(20, 20), "dog", name=name) for name in names])
    assert [groundings[0] is not None for groundings in found] == [True, False, False]
    (stretched,) = grounder.ground([request("1", noise(20, 30), "dog", name=names[0])])
    assert stretched == [None]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_annotations_of_a_turned_photograph_are_turned_with_it(tmp_path, orientation):
    stored = np.zeros((20, 30, 3), dtype=np.uint8)
    stored[2:8, 5:20] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = image_bytes(Image.fromarray(stored), "PNG", exif=exif)
    box = [5, 2, 15, 6]
    coco = {
        "images": [{"id": 9, "file_name": "a.png", "width": 30, "height": 20}],
        "annotations": [{"image_id": 9, "category_id": 1, "bbox": box, "segmentation": []}],
        "categories": [{"id": 1, "name": "dog"}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(coco))
    index_annotations([tmp_path / "instances.json"], tmp_path / "index.sqlite")
    shown = open_image(data).convert("RGB")
    asked = GroundingRequest("1", (shown,), (StoredImage(data, "a.png"),), ("dog",))
    ((found,),) = AnnotationsGrounder(tmp_path / "index.sqlite").ground([asked])
    assert (found.mask == (np.asarray(shown)[..., 0] == 255)).all()


@pytest.mark.parametrize("shape", [[[1, 2]], [[1, 2, 5, 6]], {"counts": 3, "size": [20, 20]}, [["a"]]])
def test_broken_segmentations_are_errors_of_their_sample(shape):
    with pytest.raises(ValueError, match="neither polygons nor run lengths"):
        AnnotatedObject("dog", (), shape, (20, 20)).mask((20, 20))


def test_compressed_run_lengths(tmp_path):
    from pycocotools import mask as coco

    encoded = coco.encode(np.asfortranarray(square(2, 3, 9, 9).astype(np.uint8)))
    shape = {"counts": encoded["counts"].decode(), "size": encoded["size"]}
    assert (AnnotatedObject("dog", (), shape, (20, 20)).mask((20, 20)) == square(2, 3, 9, 9)).all()


def test_adjectives_choose_among_annotated_objects():
    objects = [thing("car", "red", "parked"), thing("car", "blue")]
    assert matching_objects("red car", objects) == objects[:1]
    assert matching_objects("old car", objects) == objects


def test_coco_and_gqa_files_ground_exactly(tmp_path):
    counts = [0, 20, 380]  # the first column of a 20×20 image
    coco = {
        "info": {"year": 2017},
        "images": [{"id": 9, "file_name": "000000000042.jpg", "width": 20, "height": 20}],
        "annotations": [
            {"image_id": 9, "category_id": 1, "segmentation": [[2, 2, 12, 2, 12, 12, 2, 12]], "bbox": [2, 2, 10, 10]},
            {"image_id": 9, "category_id": 1, "segmentation": {"counts": counts, "size": [20, 20]}, "iscrowd": 1},
            {"image_id": 9, "category_id": 2, "segmentation": [], "bbox": [5, 5, 3, 4]},
        ],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
    }
    graph = {"n16": {"width": 40, "height": 20, "objects": {"1": {"name": "tree", "x": 10, "y": 0, "w": 10, "h": 20}}}}
    (tmp_path / "instances.json").write_text(json.dumps(coco))
    (tmp_path / "graphs.json").write_text(json.dumps(graph))
    index_annotations([tmp_path / "instances.json", tmp_path / "graphs.json"], tmp_path / "index.sqlite")
    grounder = AnnotationsGrounder(tmp_path / "index.sqlite")
    requests = [
        request("1", noise(20, 20), "dogs", "kitten", "bird", name="coco/train2017/000000000042.jpg"),
        request("2", noise(40, 40), "dog", name="COCO_val2014_000000000042.jpg"),
        request("3", noise(20, 10), "tall tree", name="gqa/images/n16.jpg"),
    ]
    (dogs, kitten, bird), (large,), (tree,) = grounder.ground(requests)
    assert dogs.mask[:, 0].all()
    assert dogs.mask[5, 5]
    assert not dogs.mask[15, 15]
    assert len(dogs.boxes) == 2
    assert dogs.score is None
    assert kitten.boxes == ((5, 5, 8, 9),)
    assert bird is None
    assert large.mask.shape == (40, 40)
    assert large.mask.mean() == pytest.approx(dogs.mask.mean(), abs=0.02)
    assert tree.boxes == ((5, 0, 10, 10),)


@pytest.mark.parametrize("content", ["[]", '{"a": 3}', '{"annotations": [{"image_id": 1}], "images": []}', "{broken"])
def test_files_that_are_no_annotations_are_named(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"x\.json"):
        index_annotations([path], tmp_path / "index.sqlite")
    assert not (tmp_path / "index.sqlite").exists()


@given(arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_compressed_run_lengths_are_checked_as_pycocotools_reads_them(mask):
    from pycocotools import mask as coco

    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    shape = {"counts": encoded["counts"].decode(), "size": [int(side) for side in mask.shape]}
    size = mask.shape[::-1]
    assert (AnnotatedObject("dog", (), shape, size).mask(size) == mask).all()
    with pytest.raises(ValueError, match="do not add up"):
        AnnotatedObject("dog", (), {**shape, "counts": shape["counts"] + "5"}, size).mask(size)
