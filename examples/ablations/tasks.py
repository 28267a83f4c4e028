"""Which tasks gain? Questions by kind, and captions, from the pretrained start with free places.

python examples/ablations/tasks.py
"""

from study import arguments, measured
from tables import publish
from vision_modeling import SETTINGS

from fivl_hf.scenes.questions import QUESTION_KINDS


def main() -> None:
    options = arguments(__doc__)
    names = {f"λ = {weight}": f"pretrained, free, λ = {weight}" for weight in ("0", "0.1")}
    results = measured(options, {label: SETTINGS[name] for label, name in names.items()})
    columns = [*(f"accuracy, {kind}" for kind in QUESTION_KINDS), "caption exact", "ROUGE-L"]
    compared = {"difference": ("λ = 0.1", "λ = 0")}
    publish(options, "tasks", "Vision Modeling by task", results, columns, "λ", compared)


if __name__ == "__main__":
    main()
