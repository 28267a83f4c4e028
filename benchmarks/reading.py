"""Memory and time of reading a LLaVA file of 200,000 samples, against json.load. Aim: memory stays as it is."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from table import publish

_READ = """
import json, re, sys, time
started = time.perf_counter()
path, way = sys.argv[1:]
if way == "stream":
    from fivl_hf.augment.inputs.readers import read_conversations
    from fivl_hf.augment.inputs.settings import InputSettings
    count = sum(1 for _ in read_conversations(InputSettings(path)))
elif way == "load":
    with open(path) as file:
        count = len(json.load(file))
else:
    from fivl_hf.augment.inputs.readers import read_conversations
    from fivl_hf.augment.inputs.settings import InputSettings
    count = 0
memory = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
print(json.dumps([count, memory, time.perf_counter() - started]))
"""


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for count in (20_000, 200_000):
            path = Path(folder) / f"{count}.json"
            _write(path, count)
            nothing = _measure(path, "nothing")
            for way in ("stream", "load"):
                read, memory, seconds = _measure(path, way)
                assert read == count
                rows.append(
                    {
                        "samples": count,
                        "file_MB": path.stat().st_size / 1e6,
                        "way": way,
                        "peak_MB": memory,
                        "above_imports_MB": memory - nothing[1] if way == "stream" else None,
                        "seconds": seconds,
                    }
                )
    publish("reading", "Reading a LLaVA file (aim: the stream's peak does not grow)", rows)


def _measure(path: Path, way: str) -> Any:
    done = subprocess.run([sys.executable, "-c", _READ, str(path), way], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def _write(path: Path, count: int) -> None:
    """Samples of about the length of mix665k's, every second id twice."""
    talk = [
        {"from": "human", "value": "<image>\nWhat are the people in the image doing, and where are they?"},
        {"from": "gpt", "value": "The image shows two women with a red umbrella beside a small white dog. " * 3},
    ]
    with path.open("w") as file:
        file.write("[")
        for i in range(count):
            entry = {"id": f"{i // 2:012d}", "image": f"coco/train2017/{i:012d}.jpg", "conversations": talk * 3}
            file.write((",\n" if i else "") + json.dumps(entry))
        file.write("]")


if __name__ == "__main__":
    main()
