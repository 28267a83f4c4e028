import pytest

import fivl_hf


def test_unknown_metric():
    with pytest.raises(ValueError, match="no metric named 'bleu'.*visual_reliance_score"):
        fivl_hf.load_metric("bleu")
