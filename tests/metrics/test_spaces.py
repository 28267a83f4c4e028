"""The metrics' Spaces as they run: Gradio serves each page, and answers over HTTP."""

import json
import os
import re
import subprocess
import sys

import pytest

from fivl_hf.evaluation.metrics import metric_folders
from fivl_hf.hub import metric_upload

FOLDERS = metric_folders()
EXPECTED = {
    "visual_reliance_score": "## 0.667",
    "head_alignment": "| 0 | 0 | 1.000 |",
    "vision_segmentation": "## IoU 0.500",
}
WRONG = {
    "visual_reliance_score": (["a", "a\nb", "a"], "1 answers, 2 masked answers and 1 references"),
    "head_alignment": (["[[1", "[0]"], "One sample per line"),
    "vision_segmentation": (["x", "[1]", "7"], "One sample per line"),
}
SCRIPT = """
import json, sys
sys.path.insert(0, ".")
import app
from gradio_client import Client

_, url, _ = app.demo.launch(prevent_thread_lock=True, quiet=True, share=False)
client = Client(url, verbose=False)
asked = (app.EXAMPLE, json.loads(sys.argv[1]))
print("RESULT", json.dumps([client.predict(*given, api_name="/score") for given in asked]))
app.demo.close()
"""


@pytest.mark.parametrize("name", FOLDERS)
def test_space_serves_the_score(name, tmp_path):
    """From a folder as the Space has it: under another name, the files of the push alone."""
    space = tmp_path / "space"
    space.mkdir()
    for path, file in metric_upload(name, "me").files:
        (space / path).write_bytes(file if isinstance(file, bytes) else file.read_bytes())
    wrong, message = WRONG[name]
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
    example, refused = json.loads(re.search(r"RESULT (.*)", done.stdout)[1])
    assert EXPECTED[name] in example
    assert message in refused
