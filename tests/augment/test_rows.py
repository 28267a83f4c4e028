import numpy as np
import pytest
from PIL import Image

from fivl_hf.augment.expressions import Extraction, Mention
from fivl_hf.augment.extractors.noun_phrases import NounPhraseExtractor
from fivl_hf.augment.grounding import Grounding
from fivl_hf.augment.inputs.conversations import Conversation, StoredImage, image_file
from fivl_hf.augment.rows import RejectedExpression, Sample, Tools, augment, build_rows
from fivl_hf.images import image_bytes
from fivl_hf.jobs.outcomes import Drop, Failure, Tally
from fivl_hf.schema import validate_row

IMAGE = image_bytes(Image.new("RGB", (6, 4)))


class Everywhere:
    """Grounds every expression but "phantom car" on the left half of its image."""

    def ground(self, requests):
        return [[self.one(request, text) for text in request.expressions] for request in requests]

    def one(self, request, text):
        width, height = request.images[0].size
        mask = np.zeros((height, width), dtype=bool)
        mask[:, : max(1, width // 2)] = True
        return None if "phantom car" in text else Grounding(mask, ((0.0, 0.0, max(1, width // 2), height),), 0.9)


TOOLS = Tools(NounPhraseExtractor(), Everywhere())


def talk(*answers, id="c1", image=IMAGE, question="What?"):
    messages = [{"role": "system", "content": "Be brief."}]
    for answer in answers:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return Conversation(id, (StoredImage(image, "a.png"),), tuple(messages), "test")


def outcome(conversation, tools=TOOLS, extractions=None):
    (found,) = build_rows([Sample(conversation, extractions)], tools)
    return found


def test_a_row_keeps_images_turns_and_evidence():
    found = outcome(talk("A red car.", "Two dogs and a phantom car."))
    view = validate_row(found.result)
    assert [(e.turn, e.text, e.keywords) for e in view.key_expressions] == [
        (0, "red car", ("car",)),
        (1, "Two dogs", ("dogs",)),
    ]
    assert found.result["images"][0]["bytes"] == IMAGE
    assert view.system == "Be brief."
    assert found.rejected == (RejectedExpression(1, "phantom car", "nothing detected"),)


def test_extractions_at_hand_are_used():
    given = (Extraction((Mention("car", 6, 9),)),)
    found = outcome(talk("A red car."), extractions=given)
    assert [e["text"] for e in found.result["key_expressions"]] == ["car"]


def test_benchmark_questions_become_benchmark_rows():
    asked = talk("yes", question="Is there a dog?")
    question = Conversation("q", asked.images, asked.messages[1:], "POPE", ("yes",), "popular")
    row = outcome(question).result
    assert (row["question"], row["answers"], row["category"]) == ("Is there a dog?", ["yes"], "popular")
    assert (row["key_expressions"][0]["text"], row["key_expressions"][0]["start"]) == ("dog", -1)
    validate_row(row)


def test_nothing_is_lost_without_a_reason(tmp_path):
    tally = Tally()
    unanswered = Conversation("c4", talk("A car.").images, talk("A car.").messages[:-1], "test")
    missing = Conversation("c5", (image_file("b.jpg", [tmp_path]),), talk("A car.").messages, "test")
    broken = talk("A car.", id="c6", image=b"no image")
    records = [
        talk("A car."),
        talk("Quickly!", id="c2"),
        talk("A phantom car.", id="c3"),
        unanswered,
        missing,
        broken,
        Drop("c7", "no image"),
        Failure("c8", "the entry is not a conversation"),
        talk("A car. " * 5_000, id="c9"),
    ]
    rows = list(augment(records, TOOLS, tally))
    assert [row["id"] for row in rows] == ["c1"]
    assert tally.read == 9 == tally.kept + tally.dropped.total() + tally.failed.total()
    assert tally.dropped == {
        "no key expression in any answer": 2,
        "no key expression was found in the image": 1,
        "questions and answers do not take turns": 1,
        "no image": 1,
    }
    assert tally.failed == {
        "the image is missing": 1,
        "the image cannot be read": 1,
        "the entry is not a conversation": 1,
    }


def test_an_answer_of_50000_characters_is_left_out_and_the_other_turns_stay():
    found = outcome(talk("A red car. " * 5_000, "A dog."))
    assert [e["turn"] for e in found.result["key_expressions"]] == [1]
    assert found.rejected[0] == RejectedExpression(0, "", "the answer has more than 20,000 characters")


def test_a_grounder_that_breaks_the_schema_fails_that_sample():
    class Wrong(Everywhere):
        def one(self, request, text):
            return Grounding(np.ones((5, 5), dtype=bool), ((0.0, 0.0, 3.0, 4.0),))

    found = outcome(talk("A car."), Tools(NounPhraseExtractor(), Wrong()))
    assert found.result.reason == "the row does not fit the schema"
    assert "masks[0]" in found.result.detail


def test_one_sample_that_breaks_the_grounder_does_not_take_others_along():
    class Brittle(Everywhere):
        def ground(self, requests):
            if any("bomb" in request.expressions for request in requests):
                raise RuntimeError("CUDA out of memory")
            return super().ground(requests)

    talks = [talk("A bomb." if i == 5 else "A car.", id=str(i)) for i in range(11)]
    found = build_rows([Sample(each) for each in talks], Tools(NounPhraseExtractor(), Brittle()))
    assert [each.id for each in found if isinstance(each.result, Failure)] == ["5"]
    assert found[5].result.detail == "RuntimeError: CUDA out of memory"
    assert len(found) == 11


def test_a_missing_package_stops_instead_of_failing_every_sample():
    class Needing(Everywhere):
        def ground(self, requests):
            raise ImportError("needs OpenCV: `pip install fivl-hf[augment]`")

    with pytest.raises(ImportError, match="needs OpenCV"):
        outcome(talk("A car."), Tools(NounPhraseExtractor(), Needing()))


# --- images as people have them -------------------------------------------------------------------------------


def jpeg(image, **options):
    return image_bytes(image, "JPEG", **options)


@pytest.mark.parametrize(
    ("image", "size"),
    [
        (image_bytes(Image.fromarray(np.full((4, 6), 40_000, dtype=np.uint16))), (6, 4)),
        (jpeg(Image.new("CMYK", (6, 4))), (6, 4)),
        (image_bytes(Image.new("RGBA", (6, 4), (255, 0, 0, 10))), (6, 4)),
        (image_bytes(Image.new("P", (6, 4))), (6, 4)),
        (image_bytes(Image.new("1", (1, 1))), (1, 1)),
    ],
    ids=["16 bits", "CMYK", "transparent", "palette", "1x1"],
)
def test_odd_images_work_and_keep_their_bytes(image, size):
    found = outcome(talk("A car.", image=image))
    assert validate_row(found.result).sizes == (size,)
    assert found.result["images"][0]["bytes"] == image


def test_16_bits_keep_their_greys():
    seen = []

    class Looking(Everywhere):
        def ground(self, requests):
            seen.append(requests[0].images[0].getpixel((0, 0)))
            return super().ground(requests)

    outcome(
        talk("A car.", image=image_bytes(Image.fromarray(np.full((4, 6), 32_768, dtype=np.uint16)))),
        Tools(NounPhraseExtractor(), Looking()),
    )
    assert seen == [(127, 127, 127)]


def test_a_turned_camera_gives_evidence_in_the_image_as_shown():
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    found = outcome(talk("A car.", image=jpeg(Image.new("RGB", (6, 4)), exif=exif)))
    view = validate_row(found.result)
    assert view.sizes == ((4, 6),)
    assert view.key_expressions[0].boxes == ((0.0, 0.0, 2.0, 6.0),)


def test_a_truncated_jpeg_and_a_bomb_fail_with_a_reason(monkeypatch):
    whole = jpeg(Image.effect_noise((200, 200), 50).convert("RGB"))
    assert "truncated" in outcome(talk("A car.", image=whole[: len(whole) // 2])).result.detail
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000)
    bomb = outcome(talk("A car.", image=whole)).result
    assert bomb.reason == "the image cannot be read"
    assert "decompression bomb" in bomb.detail
