import os

import pytest

from fivl_hf.augment.inputs import conversations
from fivl_hf.augment.inputs.conversations import Conversation, StoredImage, image_file, records_digest
from fivl_hf.images import ImageError
from fivl_hf.jobs.outcomes import Drop


def test_the_first_folder_that_has_an_image_gives_it(images):
    image = image_file("coco/a.jpg", images)
    assert image.exists()
    assert image.read() == (images[1] / "coco" / "a.jpg").read_bytes()
    (images[0] / "coco" / "a.jpg").write_bytes(b"nearer")
    assert image.read() == b"nearer"


def test_an_image_that_is_nowhere(images):
    image = image_file("coco/b.jpg", images)
    assert not image.exists()
    assert image.version() == ""
    with pytest.raises(FileNotFoundError, match="one/coco/b.jpg or .*two/coco/b.jpg"):
        image.read()


def test_an_image_file_larger_than_any_image_is_not_read(images, monkeypatch):
    monkeypatch.setattr(conversations, "MAX_IMAGE_BYTES", 10)
    with pytest.raises(ImageError, match="bytes; at most 10 are read"):
        image_file("coco/a.jpg", images).read()


def sample(image=None, answer="A car.", **more):
    messages = ({"role": "user", "content": "What?"}, {"role": "assistant", "content": answer})
    return Conversation("1", (image or StoredImage(b"x", "a.jpg"),), messages, "test", **more)


def test_digests_change_with_what_was_read(images):
    file = image_file("coco/a.jpg", images)
    before = records_digest([sample(file)])
    assert records_digest([sample(file)]) == before
    os.utime(file.places[1], (1, 1))
    others = [
        [sample(file)],
        [sample()],
        [sample(StoredImage(b"y", "a.jpg"))],
        [sample(answer="A bus.")],
        [sample(answers=("car",))],
        [sample(category="x")],
        [sample(), sample()],
        [Drop("1", "no image")],
        [Drop("1", "no image", "a.jpg")],
    ]
    assert len({before, *map(records_digest, others)}) == 1 + len(others)
