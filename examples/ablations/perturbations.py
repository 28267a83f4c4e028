"""Does it make answers more robust? Images blurred, noisy, occluded and attacked (PGD on pixels).

python examples/ablations/perturbations.py

All columns are of the same questions, those about objects on patch corners for models that were trained on these.
"""

from attack import EPSILONS
from changes import IMAGE_CHANGES
from study import arguments, measured, subset_size
from tables import publish
from vision_modeling import COMPARED, SETTINGS


def main() -> None:
    options = arguments(__doc__)
    results = measured(options, SETTINGS)
    columns = ["before changes", *IMAGE_CHANGES, *(f"PGD {epsilon}/255" for epsilon in EPSILONS)]
    columns = [f"accuracy, {column}" for column in columns]
    note = f"All columns are of the same {subset_size(options.test_rows)} questions."
    publish(options, "perturbations", "Perturbed images", results, columns, "scenes, λ", COMPARED, note=note)


if __name__ == "__main__":
    main()
