from families import make

from fivl_hf.geometry import token_boxes


def test_gemma_and_internvl_take_the_processors_own_settings():
    """``images_kwargs`` of the processor has precedence over what its image processor says."""
    processor, _ = make("Gemma 3")
    processor.image_processor.do_pan_and_scan = True
    assert len(token_boxes(processor, (400, 100))) == 16
    processor, _ = make("InternVL")
    processor.image_processor.crop_to_patches = False
    assert len(token_boxes(processor, (400, 100))) > 16
