"""fivl evaluate against lmms-eval's own loop: the same model, questions and conditions.

Needs the environment of ``make test-harnesses``; FIVL_HARNESSES_PYTHON names its Python. Start-up is taken out: each
is run with few and with many questions.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from table import publish

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

FEW, MANY = 10, 2_000


def main() -> None:
    import families
    from benchmark_folders import as_benchmark, write_benchmark

    from fivl_hf.augment.scenes import scene_rows
    from fivl_hf.evaluation.integrations.lmms_eval import TASKS

    python = os.environ.get("FIVL_HARNESSES_PYTHON")
    if not python:
        raise SystemExit("FIVL_HARNESSES_PYTHON must name the Python of make test-harnesses' environment")
    with TemporaryDirectory() as name:
        folder = Path(name)
        families.save("LLaVA-1.5, crop", str(folder / "model"))
        # `datasets` would take another folder of one name for the same.
        os.environ["FIVL_GQA"] = data = f"scenes-{os.getpid()}"
        write_benchmark(folder / data, "validation", as_benchmark(list(scene_rows("test", MANY, seed=0)), "GQA"))

        def harness(questions: int) -> list[str]:
            options = f"--model llava_hf --model_args pretrained=model,device_map=cpu,dtype=float32 --batch_size 1 \
                --include_path {TASKS} --tasks fivl_gqa --device cpu --output_path lmms --limit {3 * questions}"
            return [python, "-m", "lmms_eval", *options.split()]

        def own(questions: int) -> list[str]:
            options = f"--model model --dataset {data} --split validation[:{questions}] --dtype float32 --restart \
                --batch-size 64 --output own"
            return [python, "-m", "fivl_hf", "evaluate", *options.split()]

        def seconds(command: list[str]) -> float:
            started = time.perf_counter()
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
            return time.perf_counter() - started

        for make in (harness, own):  # Fills the caches.
            seconds(make(FEW))
        theirs, ours = (seconds(make(MANY)) - seconds(make(FEW)) for make in (harness, own))
    asked = 3 * (MANY - FEW)
    row = {"answers": asked, "ours_s": ours, "lmms_eval_s": theirs, "ratio": theirs / ours}
    publish("harness", "fivl evaluate in batches of 64 against lmms-eval's llava_hf, which asks one at a time", [row])


if __name__ == "__main__":
    main()
