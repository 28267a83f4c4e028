import json
import os
import re
import subprocess
import sys

import pytest

from fivl_hf.evaluation.metrics import metric_folders
from fivl_hf.hub.push import metric_upload
from fivl_hf.keywords import word_token_id

FOLDERS = metric_folders()


EXPECTED = {
    "visual_reliance_score": "## 0.667",
    "head_alignment": "| 0 | 0 | 1.000 |",
    "vision_segmentation": "## IoU 0.500",
}


# What is typed, and what is answered.
WRONG = {
    "visual_reliance_score": [(["a", "a\nb", "a"], "1 answers, 2 without the evidence and 1 right answers")],
    "head_alignment": [
        (["\n[[1", "[0]"], "Attention, line 2: "),
        (["[[[0.1, 0.2]]]", ""], "there are 1 and 0"),
    ],
    "vision_segmentation": [
        (["x", "[1]", "7", ""], "Predictions, line 1: "),
        (["[7, 9]", "[1, 0]", "ring", ""], "'ring' is not a vocabulary id: name the model's tokenizer"),
        (["[RING, 9]", "[1, 0]", "ring", "TOKENIZER"], "## IoU 1.000"),
        (["[7, 9]", "[1, 0]", "zebra", "TOKENIZER"], "the tokenizer does not know 'zebra'"),
        (["[7, 9]", "[1, 0]", "ring", "no/such"], "This could not be read: "),
    ],
}


SCRIPT = """
import json, sys
sys.path.insert(0, ".")
import app
from gradio_client import Client

_, url, _ = app.launch(app.demo, prevent_thread_lock=True, quiet=True, share=False)
client = Client(url, verbose=False)
asked = (app.EXAMPLE, *json.loads(sys.argv[1]))
print("RESULT", json.dumps([client.predict(*given, api_name="/score") for given in asked]))
app.demo.close()
"""


@pytest.mark.parametrize("name", FOLDERS)
def test_space_serves_the_score(name, tmp_path, processor):
    """From a folder as the Space has it: under another name, the files of the push alone."""
    space = tmp_path / "space"
    space.mkdir()
    for path, file in metric_upload(name, "me", "fivl-hf").files:
        (space / path).write_bytes(file if isinstance(file, bytes) else file.read_bytes())
    processor.tokenizer.save_pretrained(tmp_path / "tokenizer")
    places = {"TOKENIZER": str(tmp_path / "tokenizer"), "RING": str(word_token_id(processor.tokenizer, "ring"))}

    def filled(text):
        return re.sub("|".join(places), lambda found: places[found[0]], text)

    wrong = [[filled(text) for text in texts] for texts, _ in WRONG[name]]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(wrong)],
        cwd=space,
        env={**os.environ, "GRADIO_ANALYTICS_ENABLED": "False", "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    example, *answers = json.loads(re.search(r"RESULT (.*)", done.stdout)[1])
    assert EXPECTED[name] in example
    for answer, (_, message) in zip(answers, WRONG[name], strict=True):
        assert message in answer
