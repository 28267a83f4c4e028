import pytest

from fivl_hf.explore.start import open_explorer
from fivl_hf.storage import write_dataset


@pytest.fixture
def places(tmp_path, model, processor, rows):
    model.save_pretrained(tmp_path / "tiny")
    processor.save_pretrained(tmp_path / "tiny")
    write_dataset(tmp_path / "rows", {"test": rows[:4]}, title="S", description="D")
    return tmp_path


def test_a_page_of_one_or_two_models(places):
    page = open_explorer([places / "tiny"], places / "rows", examples=3)
    assert page.title == "Explore tiny"
    top = next(block for block in page.blocks.values() if getattr(block, "elem_id", "") == "fivl-top").value
    assert top.count("data-example=") == 3
    assert "agrees best with the masks of 3 rows" in top
    both = open_explorer([places / "tiny"] * 2, places / "rows", examples=0, head=(1, 2))
    assert both.title == "Explore tiny and tiny"
    with pytest.raises(ValueError, match="layer 9, head 0: the model has 2 layers"):
        open_explorer([places / "tiny"], places / "rows", head=(9, 0))
