import json
import subprocess
import sys
from pathlib import Path

import families
from benchmark_folders import as_benchmark, own_answers, write_benchmark

SCRIPT = Path(__file__).parents[2] / "examples" / "random_masks.py"


def test_draws_of_random_boxes_are_measured_and_kept(rows, tmp_path):
    family = "LLaVA-1.5, crop"
    families.save(family, str(tmp_path / "model"))
    processor, model = families.make(family)
    answers = own_answers(model, processor, rows[:12])
    write_benchmark(tmp_path / "rows", "test", as_benchmark(rows[:12], "GQA", answers))
    command = [sys.executable, SCRIPT, "--model", "model", "--dataset", "rows", "--draws", "2", "--output", "out"]
    outputs = []
    for _ in range(2):
        done = subprocess.run([*map(str, command)], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        outputs.append({path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.json*")})
    assert outputs[0] == outputs[1]
    found = json.loads(outputs[0]["random_masks.json"])
    assert len(found["random"]) == 2
    assert found["p"] == (1 + sum(loss >= found["visual_reliance_score"] for loss in found["random"])) / 3
    assert outputs[0]["draw-0.jsonl"] != outputs[0]["draw-1.jsonl"]
    assert "p = " in done.stdout
