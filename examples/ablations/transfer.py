"""Does it carry over? To pairs of colour and shape never seen together, and to images drawn in another style.

python examples/ablations/transfer.py

"Unseen" asks for six pairs that training leaves out; the same questions are no news to models trained on all pairs.
"""

from study import Setting, arguments, measured, publish


def main() -> None:
    options = arguments(__doc__)
    settings = {
        f"{data}, λ = {weight:g}": Setting(weight=weight, held_out=held_out)
        for data, held_out in (("all pairs", False), ("six left out", True))
        for weight in (0.0, 0.1)
    }
    results = measured(options, settings)
    columns = ["accuracy", "accuracy, unseen pairs", "accuracy, style", "IoU"]
    publish(options, "transfer", "Unseen pairs and another style", results, columns, "training data")


if __name__ == "__main__":
    main()
