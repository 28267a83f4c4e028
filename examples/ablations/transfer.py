"""Does it carry over? To unseen pairs of colour and shape, another style, photographs, other habits.

python examples/ablations/transfer.py

Six pairs of colour and shape are held out of stage 2 and of the language model's text; tower and projector have seen
them in captions. "Seen" pairs leave out the usual ones, too. "Outlined" is a style that neither the vision tower
nor the training has seen; photographs the tower and the language model know from before; in "flipped" shapes have other
usual colours, so that what language alone would guess is wrong.
"""

import argparse

from study import arguments, measured, subset_size
from tables import Compared, Results, publish
from tasks import COMPARED, PAIR


def main() -> None:
    options = arguments(__doc__)
    results = measured(options, PAIR)
    publish_transfer(options, "transfer", "Transfer", results, "λ", COMPARED)


def publish_transfer(
    options: argparse.Namespace, name: str, title: str, results: Results, label: str, compared: Compared
) -> None:
    """Write a table of the accuracy on what differs from training."""
    kinds = ("seen pairs", "unseen pairs", "outlined", "photographs", "flipped")
    columns = ["accuracy", *(f"accuracy, {kind}" for kind in kinds)]
    note = f"Columns after the first: up to {subset_size(options.test_rows)} questions."
    publish(options, name, title, results, columns, label, compared, note=note)


if __name__ == "__main__":
    main()
