"""Does it carry over? To unseen pairs of colour and shape, another style, photographs, other habits.

python examples/ablations/transfer.py

Six pairs of colour and shape are held out of all training scenes. "Outlined" is a style that neither the vision tower
nor the training has seen; photographs the tower and the language model know from before; in "flipped" shapes have other
usual colours, so that what language alone would guess is wrong.
"""

from measuring import fewer
from study import arguments, measured
from tables import publish
from tasks import COMPARED, PAIR


def main() -> None:
    options = arguments(__doc__)
    results = measured(options, PAIR)
    kinds = ("seen pairs", "unseen pairs", "outlined", "photographs", "flipped")
    columns = ["accuracy", *(f"accuracy, {kind}" for kind in kinds)]
    note = f"Columns after the first: up to {fewer(options.test_rows)} questions."
    publish(options, "transfer", "Transfer", results, columns, "λ", COMPARED, note=note)


if __name__ == "__main__":
    main()
