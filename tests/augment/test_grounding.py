"""Grounders: rules by hand, and the batched GroundedSam against one image, one label at a time."""

import json
import sys

import numpy as np
import pytest
import segment_anything
import torch
import transformers
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from random_models import save_grounding_dino, save_sam, save_sam2, save_sam3
from skimage.measure import label as components
from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor, SamModel, SamProcessor

from fivl_hf.augment.grounders import segmenters
from fivl_hf.augment.grounders.annotations import (
    AnnotatedObject,
    AnnotationsGrounder,
    index_annotations,
    matching_objects,
)
from fivl_hf.augment.grounders.detectors import GroundingDinoDetector
from fivl_hf.augment.grounders.sam3 import Sam3Grounder
from fivl_hf.augment.grounders.segmenters import SamSegmenter, load_segmenter
from fivl_hf.augment.grounding import (
    BoxGrounder,
    Detection,
    Grounding,
    GroundingRequest,
    box_iou,
    clean_mask,
    distinct_boxes,
    share_masks,
)
from fivl_hf.augment.inputs.conversations import StoredImage
from fivl_hf.images import image_bytes, open_image


def square(x0, y0, x1, y1, size=20):
    mask = np.zeros((size, size), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def request(id, image, *expressions, name="a.jpg"):
    images = image if isinstance(image, tuple) else (image,)
    sources = tuple(StoredImage(image_bytes(each), name) for each in images)
    return GroundingRequest(id, images, sources, expressions)


def noise(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))


def test_box_iou_by_hand():
    # 10×10 against its right half: 50 shared of 100; apart: 0; the same: 1; without area: 0.
    a = [[0, 0, 10, 10]]
    assert box_iou(a, [[5, 0, 10, 10], [20, 0, 30, 10], [0, 0, 10, 10], [3, 3, 3, 9]]).tolist() == [[0.5, 0, 1, 0]]


def test_near_copies_are_one_box():
    boxes = np.array([[0, 0, 100, 100], [0, 0, 100, 96], [0, 0, 100, 90], [0, 0, 100, 99.0]])
    kept, member = distinct_boxes(boxes)
    assert kept.tolist() == [[0, 0, 100, 100], [0, 0, 100, 90]]
    assert member.tolist() == [0, 0, 1, 0]


def test_cleaning_keeps_large_outlines_and_fills_them():
    mask = square(0, 0, 10, 10)
    mask[3:6, 3:6] = False  # a hole
    mask[12:15, 12:15] = True  # 9 of 100 pixels
    mask[0:3, 12:16] = True  # 12 of 100 pixels
    expected = square(0, 0, 10, 10) | square(12, 0, 16, 3)
    assert (clean_mask(mask) == expected).all()
    assert not clean_mask(np.zeros((3, 3), dtype=bool)).any()
    assert clean_mask(np.ones((1, 1), dtype=bool)).all()


@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.booleans()))
@example(np.array([[1] * 8 + [0], [0, 0, 1, 1] + [0] * 5, [1] + [0] * 8], dtype=bool))
def test_cleaning_keeps_what_pixel_counts_say(mask):
    """Pick's theorem counts the pixels of outlines; here they are counted one by one."""
    cleaned = clean_mask(mask)
    outside = components(np.pad(~mask, 1, constant_values=True), connectivity=1)
    filled = components(outside[1:-1, 1:-1] != outside[0, 0], connectivity=2)
    sizes = np.bincount(filled.ravel())[1:]
    if not len(sizes):
        assert not cleaned.any()
        return
    large = [i + 1 for i, size in enumerate(sizes) if size > 0.1 * sizes.max()]
    assert (cleaned == np.isin(filled, large)).all()


def test_masks_that_are_nearly_the_same_become_the_first():
    groundings = {
        "a": Grounding(square(0, 0, 20, 20), ()),
        "b": Grounding(square(0, 0, 20, 18), ()),
        "c": Grounding(square(0, 0, 20, 20) ^ square(0, 0, 3, 3), ()),
    }
    shared = share_masks(groundings)
    assert shared["c"].mask is groundings["a"].mask  # 391 of 400
    assert shared["b"].mask is groundings["b"].mask  # 360 of 400


class FixedDetector:
    def __init__(self, found):
        self.found = found

    def detect(self, pairs):
        boxes = [self.found.get((image.width, label), []) for image, label in pairs]
        return [Detection(np.array(b, dtype=float).reshape(-1, 4), np.linspace(0.9, 0.8, len(b))) for b in boxes]


class BoxSegmenter:
    """Masks that fill their boxes; counts how many boxes it saw."""

    def __init__(self):
        self.seen = []

    def segment(self, image, boxes):
        self.seen.append(len(boxes))
        for x0, y0, x1, y1 in boxes.astype(int):
            mask = np.zeros((image.height, image.width), dtype=bool)
            mask[y0:y1, x0:x1] = True
            yield mask


def test_boxes_of_an_expression_are_united_and_shared_ones_segmented_once():
    found = {(40, "dogs"): [[0, 0, 10, 10], [20, 0, 30, 10]], (40, "left dog"): [[0, 0, 10, 10]]}
    segmenter = BoxSegmenter()
    grounder = BoxGrounder(FixedDetector(found), segmenter)
    ((dogs, left, ghost, again),) = grounder.ground([request("1", noise(40, 20), "dogs", "left dog", "ghost", "dogs")])
    assert dogs.mask.sum() == 200
    assert dogs.boxes == ((0, 0, 10, 10), (20, 0, 30, 10))
    assert dogs.score == 0.9
    assert left.mask.sum() == 100
    assert ghost is None
    assert again == dogs
    assert segmenter.seen == [2]


def test_boxes_are_clipped_and_empty_ones_are_nothing():
    found = {(40, "a"): [[-5, -5, 10, 50]], (40, "b"): [[50, 0, 60, 10]], (40, "c"): [[3, 3, 3, 9]]}
    ((a, b, c),) = BoxGrounder(FixedDetector(found), BoxSegmenter()).ground(
        [request("1", noise(40, 20), "a", "b", "c")]
    )
    assert a.boxes == ((0, 0, 10, 20),)
    assert (b, c) == (None, None)


def test_of_several_images_the_surest_is_taken():
    class Surer(FixedDetector):
        def detect(self, pairs):
            return [
                Detection(d.boxes, d.scores * (p.width / 100))
                for d, (p, _) in zip(super().detect(pairs), pairs, strict=True)
            ]

    found = {(40, "a"): [[0, 0, 9, 9]], (50, "a"): [[0, 0, 5, 5]]}
    grounder = BoxGrounder(Surer(found), BoxSegmenter())
    ((a,),) = grounder.ground([request("1", (noise(40, 20), noise(50, 20)), "a")])
    assert a.image == 1
    assert a.mask.shape == (20, 50)


# --- real classes, random weights -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save_grounding_dino(folder / "dino", size=128)
    save_grounding_dino(folder / "mm", mm=True, size=128)
    save_sam(folder / "sam")
    return folder


def naive(folder, detector, threshold, image, labels):
    """The paper's steps for one image, written plainly: one label, one forward pass, one box, one mask."""
    processor = AutoProcessor.from_pretrained(folder / detector)
    dino = AutoModelForZeroShotObjectDetection.from_pretrained(folder / detector).eval()
    sam, sam_processor = SamModel.from_pretrained(folder / "sam").eval(), SamProcessor.from_pretrained(folder / "sam")
    groundings, known, earlier = {}, [], []
    for label in labels:
        inputs = processor(images=image, text=label + ".", return_tensors="pt")
        with torch.no_grad():
            outputs = dino(**inputs)
        (result,) = processor.image_processor.post_process_object_detection(
            outputs, threshold=threshold, target_sizes=torch.tensor([image.size[::-1]])
        )
        mask, boxes = np.zeros(image.size[::-1], dtype=bool), []
        for box in result["boxes"].double().numpy():
            box = np.clip(box, 0, [*image.size, *image.size])
            same = [k for k in known if box_iou([box], [k[0]])[0, 0] > 0.95]
            if not same:
                prompt = sam_processor(image, input_boxes=[[box.tolist()]], return_tensors="pt")
                with torch.no_grad():
                    out = sam(
                        pixel_values=prompt["pixel_values"],
                        input_boxes=prompt["input_boxes"].float(),
                        multimask_output=False,
                    )
                (full,) = sam_processor.image_processor.post_process_masks(
                    out.pred_masks, prompt["original_sizes"], prompt["reshaped_input_sizes"]
                )
                known.append((box, clean_mask(full[0, 0].numpy())))
                same = known[-1:]
            if same[0][1].any():
                mask = mask | same[0][1]
                boxes.append(tuple(same[0][0]))
        if mask.any():
            for other in earlier:
                if (mask & other).sum() > 0.95 * (mask | other).sum():
                    mask = other
                    break
            earlier.append(mask)
            groundings[label] = (mask, tuple(dict.fromkeys(boxes)), float(result["scores"].max()))
    return groundings


@pytest.mark.parametrize(("detector", "threshold"), [("dino", 0.93), ("mm", 0.62)])
def test_batched_grounding_equals_one_at_a_time(models, detector, threshold):
    images = [noise(64, 48, 0), noise(50, 50, 1), noise(64, 48, 2), noise(30, 90, 3), noise(64, 48, 4)]
    labels = ("red car", "dog", "a very old tree")
    grounder = BoxGrounder(
        GroundingDinoDetector(models / detector, threshold=threshold, batch_size=4), SamSegmenter(models / "sam")
    )
    found = grounder.ground([request(str(i), image, *labels) for i, image in enumerate(images)])
    count = 0
    for image, groundings in zip(images, found, strict=True):
        expected = naive(models, detector, threshold, image, labels)
        for label, grounding in zip(labels, groundings, strict=True):
            assert (grounding is None) == (label not in expected)
            if grounding:
                mask, boxes, score = expected[label]
                count += len(boxes)
                np.testing.assert_allclose(grounding.boxes, boxes, atol=1e-3)
                assert grounding.score == pytest.approx(score, abs=1e-5)
                assert (grounding.mask != mask).mean() < 0.002  # a border pixel may round the other way
    assert count > 20


def test_many_boxes_go_through_sam_in_chunks(models, monkeypatch):
    boxes = np.array([[x, y, x + 20, y + 15] for x in range(0, 40, 4) for y in range(0, 30, 6)], dtype=float)
    segmenter = SamSegmenter(models / "sam")
    whole = np.stack(list(segmenter.segment(noise(64, 48), boxes)))
    assert whole.shape == (50, 48, 64)
    for limit, value in (("CHUNK", 7), ("CHUNK_PIXELS", 10_000)):
        monkeypatch.setattr(f"fivl_hf.augment.grounders.segmenters.{limit}", value)
        assert (np.stack(list(segmenter.segment(noise(64, 48), boxes))) == whole).mean() > 0.999


def test_a_image_of_one_pixel(models):
    grounder = BoxGrounder(GroundingDinoDetector(models / "dino"), SamSegmenter(models / "sam"))
    ((found,),) = grounder.ground([request("1", noise(1, 1), "dog")])
    assert found is None or found.mask.shape == (1, 1)


def test_half_precision_finds_about_the_same(models):
    full, half = (
        GroundingDinoDetector(models / "dino", threshold=0.5, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)
    )
    a, b = (detector.detect([(noise(64, 48), "dog")])[0] for detector in (full, half))
    assert abs(len(a.boxes) - len(b.boxes)) <= 2
    masks = list(SamSegmenter(models / "sam", dtype=torch.bfloat16).segment(noise(64, 48), a.boxes))
    assert {mask.shape for mask in masks} == {(48, 64)}


def test_models_that_are_none_are_named(models, tmp_path):
    with pytest.raises(FileNotFoundError, match="no segmenter folder"):
        SamSegmenter(tmp_path / "none")
    with pytest.raises(ValueError, match="'grounding-dino' is not one of"):
        SamSegmenter(models / "dino")


def test_segment_anything_without_torchvision_says_so(tmp_path, monkeypatch):
    for name in ["torchvision", *(name for name in sys.modules if name.startswith("torchvision."))]:
        monkeypatch.setitem(sys.modules, name, None)
    for name in [name for name in sys.modules if name.startswith("segment_anything")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"needs torchvision: `pip install fivl-hf\[segment-anything\]`"):
        load_segmenter(tmp_path / "sam_vit_b.pth")


BOXES = np.array([[5, 5, 40, 40], [0, 0, 90, 60], [0, 0, 90, 60], [30, 10, 80, 50]], dtype=float)


def test_segment_anything_runs_on_its_own_checkpoint(tmp_path, monkeypatch):
    """The package's real vit_b with random weights, saved and read as a checkpoint."""
    torch.manual_seed(0)
    path = tmp_path / "sam_vit_b.pth"
    torch.save(segment_anything.sam_model_registry["vit_b"]().state_dict(), path)
    monkeypatch.setattr(segmenters, "CHUNK", 2)
    masks = np.stack(list(load_segmenter(path).segment(noise(90, 60), BOXES)))
    assert (masks.shape, masks.dtype) == ((4, 60, 90), bool)
    assert (masks[1] == masks[2]).mean() > 0.99
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="is not a checkpoint of segment-anything"):
        load_segmenter(path)
    with pytest.raises(FileNotFoundError, match="there is no checkpoint nothing.pth"):
        load_segmenter("nothing.pth")


def test_sam2_turns_boxes_into_masks(tmp_path, monkeypatch):
    segmenter = load_segmenter(save_sam2(tmp_path / "sam2"))
    whole = np.stack(list(segmenter.segment(noise(90, 60), BOXES)))
    assert (whole.shape, whole.dtype) == ((4, 60, 90), bool)
    monkeypatch.setattr(segmenters, "CHUNK", 1)
    again = np.stack(list(segmenter.segment(noise(90, 60), BOXES)))
    assert (again == whole).mean() > 0.999


def test_sam3_grounds_words(tmp_path):
    """What the grounder unites is what SAM 3's own processor gives for one image and one text."""
    folder, image = save_sam3(tmp_path / "sam3"), noise(90, 60)
    asked = GroundingRequest("1", (image,), (), ("red car", "dog", "red car"))
    ((car, _, again),) = Sam3Grounder(folder, threshold=0.2).ground([asked])
    processor, model = (
        transformers.Sam3Processor.from_pretrained(folder),
        transformers.Sam3Model.from_pretrained(folder),
    )
    with torch.no_grad():
        outputs = model.eval()(**processor(images=image, text="red car", return_tensors="pt"))
    (plain,) = processor.post_process_instance_segmentation(outputs, threshold=0.2, target_sizes=[(60, 90)])
    assert np.array_equal(car.mask, plain["masks"].numpy().astype(bool).any(axis=0))
    assert car.score == pytest.approx(float(plain["scores"].max()), abs=1e-4)
    assert 0 < len(car.boxes) <= len(plain["boxes"])
    assert again.boxes == car.boxes
    assert Sam3Grounder(folder, threshold=0.99).ground([asked]) == [[None, None, None]]


# --- annotations ------------------------------------------------------------------------------------------------


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
