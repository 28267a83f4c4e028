"""How do errors in the masks degrade training? Exact masks against dilated, missing, shifted, swapped and random ones.

python examples/ablations/mask_errors.py

Objects fill two by two patches. Dilated by 4 pixels they touch a ring of patches more, so that the 30% rule would leave
them out: the limit is lifted for them.
"""

from study import Setting, arguments, measured, publish

SETTINGS = {
    "no masks (λ = 0)": Setting(weight=0.0),
    "exact": Setting(),
    "half of them missing": Setting(mask_error="drop"),
    "half of them swapped": Setting(mask_error="swap"),
    "shifted by a patch": Setting(mask_error="shift"),
    "dilated by 4 pixels": Setting(mask_error="dilate", max_coverage=1.0),
    "at random places": Setting(mask_error="random"),
}


def main() -> None:
    options = arguments(__doc__)
    results = measured(options, SETTINGS)
    publish(
        options, "mask_errors", "Errors in the masks", results, ["accuracy", "reliance", "IoU", "best head"], "masks"
    )


if __name__ == "__main__":
    main()
