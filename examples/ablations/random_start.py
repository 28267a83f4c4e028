"""Does Vision Modeling help from random weights, with a trainable vision tower?

python examples/ablations/random_start.py
"""

from study import arguments
from vision_modeling import compare, settings

SETTINGS = settings("random")
STEPS = 600


def main() -> None:
    options = arguments(__doc__, steps=STEPS)
    compare(options, "random_start", "With and without Vision Modeling, from random weights", SETTINGS)


if __name__ == "__main__":
    main()
