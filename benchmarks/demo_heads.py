"""Attention heads of the demo's two models over several seeds: AUROC, knock-out, lens, boxes.

Usage: python benchmarks/demo_heads.py FOLDER ..., each the finished output of ``fivl demo --seed N --output FOLDER``.
"""

import json
import sys
from pathlib import Path
from typing import Any

from table import publish

from fivl_hf.demo.settings import MODELS


def main() -> None:
    folders = [Path(name) for name in sys.argv[1:]]
    if not folders:
        raise SystemExit(__doc__)
    rows = [_row(folder, name) for folder in folders for name in MODELS]
    publish("demo_heads", "Heads of the demo's models, 500 test scenes", rows)


def _row(folder: Path, name: str) -> dict[str, Any]:
    seed = json.loads((folder / "results.json").read_text(encoding="utf-8"))["seed"]
    found = json.loads((folder / "measurements" / name / "explanation.json").read_text(encoding="utf-8"))
    auroc, knockout = found["measures"]["auroc"]["held_out"], found["knockout"]
    aligned = knockout["sets"]["aligned"]["effects"]
    at_patches, elsewhere = (found["lens"]["rank"][place] for place in ("at its patches", "elsewhere"))
    boxes = found["localization"]
    return {
        "seed": seed,
        "model": name,
        "auroc": auroc["value"],
        "low": auroc["confidence_interval"][0],
        "high": auroc["confidence_interval"][1],
        "control": auroc["control"]["value"],
        **{f"drop_{each['k']}": each["specific"] for each in aligned},
        **{f"p_{each['k']}": each["p"] for each in aligned},
        **{f"random_{each['k']}": len(each["random"]["specific"]) for each in aligned},
        "accuracy": knockout["before"]["accuracy"],
        **{f"accuracy_{each['k']}": each["accuracy"] for each in aligned},
        **{f"rank_{layer}": rank for layer, rank in enumerate(at_patches)},
        **{f"elsewhere_{layer}": rank for layer, rank in enumerate(elsewhere)},
        **{f"iou of {way}": boxes.get(way, {}).get("iou", {}).get("value") for way in _WAYS},
    }


_WAYS = ("localization heads", "heads by masks", "all heads")


if __name__ == "__main__":
    main()
