"""Does a high Visual Reliance Score go with robustness to blur and noise?

python examples/ablations/robustness.py

Over all models of loss_weight.py and mask_errors.py that answer at least a tenth of the questions: rank correlation of
their score with the share of their accuracy that survives. Accuracy goes with both, so its correlation stands beside.
"""

import numpy as np
from loss_weight import WEIGHTS
from mask_errors import SETTINGS
from matplotlib.figure import Figure
from study import Setting, arguments, measured

from fivl_hf.explain.measures import spearman


def main() -> None:
    options = arguments(__doc__)
    names = {setting: name for name, setting in SETTINGS.items()}
    names |= {Setting(weight=weight): f"λ = {weight:g}" for weight in WEIGHTS}
    groups = measured(options, {name: setting for setting, name in names.items()})
    kept = [run for group in groups.values() for run in group if run["accuracy"] >= 0.1]
    if len(kept) < 3:
        raise SystemExit("fewer than three models answer a tenth of the questions: train them for more --steps")
    predictors = {key: np.array([run[key] for run in kept]) for key in ("reliance", "accuracy")}
    lines = ["| what survives | correlation with VRS | correlation with accuracy |", "| --- | --- | --- |"]
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    for panel, kind in zip(figure.subplots(1, 2, sharey=True), ("blur", "noise"), strict=True):
        survives = np.array([run[f"accuracy, {kind}"] for run in kept]) / predictors["accuracy"]
        found = {key: float(spearman(values, survives)) for key, values in predictors.items()}
        lines.append(f"| {kind} | {found['reliance']:.2f} | {found['accuracy']:.2f} |")
        panel.plot(predictors["reliance"], survives, "o", color="#0072b2")
        panel.set(xlabel="Visual Reliance Score", title=f"{kind}: rank correlation {found['reliance']:.2f}")
        panel.grid(alpha=0.3)
        panel.set_ylabel("share of accuracy that survives")
    title = f"Reliance and robustness, {len(kept)} models"
    print(f"\n{title}\n\n" + "\n".join(lines))
    (options.output / "robustness.md").write_text(f"# {title}\n\n" + "\n".join(lines) + "\n", encoding="utf-8")
    figure.savefig(options.output / "robustness.png", dpi=120)


if __name__ == "__main__":
    main()
