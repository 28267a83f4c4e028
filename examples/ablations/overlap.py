"""Who should keep a patch that two expressions claim, the first (as in the paper) or the smallest mask?

python examples/ablations/overlap.py

Half of the masks are a patch and a half too wide, and none is left out for its size, so that they overlap.
"""

from study import Setting, arguments, measured
from tables import publish


def main() -> None:
    options = arguments(__doc__, seeds=3, steps=600, test_rows=300)
    settings = {
        overlap: Setting(mask_error="swell half", max_coverage=1.0, overlap=overlap)
        for overlap in ("first", "smallest")
    }
    results = measured(options, settings)
    title = "Patches claimed twice, half of the masks swollen"
    publish(options, "overlap", title, results, ["accuracy", "reliance", "IoU", "best head"], "kept by")


if __name__ == "__main__":
    main()
