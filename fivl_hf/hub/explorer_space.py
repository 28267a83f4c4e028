"""The page of ``fivl explore`` as a Space, for a model and a dataset that are on the Hub."""

from importlib.metadata import version

from packaging.requirements import InvalidRequirement, Requirement

from fivl_hf.hub.push import Upload, require_id

__all__ = ["explorer_upload"]

_APP = '''\
"""Ask {model}, and see where it looks: the page of `fivl explore`."""

from fivl_hf.explore.start import open_explorer
from fivl_hf.show.gradio_pages import launch, page_style

if __name__ == "__main__":
    page = open_explorer([{models}], {dataset!r}, split={split!r})
    launch(page, css=page_style("explore.css"))
'''
_CARD = """\
---
title: Explore {name}
sdk: gradio
sdk_version: {gradio}
app_file: app.py
models: [{models}]
datasets: [{dataset}]
tags: [fivl]
---

# Explore {name}

Ask [{model}](https://huggingface.co/{model}) about images of [{dataset}](https://huggingface.co/datasets/{dataset}) or
your own: click a word of the answer to see the attention behind it, click a patch to see what it predicts, drag a box
to black it out, keep only it or blur it, and compare with random boxes.
"""


def explorer_upload(
    repo_id: str, model: str, dataset: str, requirement: str, *, split: str = "test", compare: str | None = None
) -> Upload:
    """Collect the upload of a Space that serves the page.

    Args:
        model, dataset: ids on the Hub, which the Space loads.
        requirement: how pip finds this package on the Space.
        compare: another model's id, shown beside the first.

    Raises:
        ValueError: not a valid Hub id, or not a requirement.
    """
    models = [model, *([compare] if compare else [])]
    for each in (repo_id, *models, dataset):
        require_id(each)
    values = {"model": model, "dataset": dataset, "split": split, "name": model.split("/")[1]}
    app = _APP.format(models=", ".join(map(repr, models)), **values)
    card = _CARD.format(models=", ".join(models), gradio=version("gradio"), **values)
    try:
        needed = Requirement(requirement)
    except InvalidRequirement as error:
        raise ValueError(f"--requirement is what pip takes, such as 'fivl-hf @ git+https://...': {error}") from error
    needed.extras.add("ui")
    files = {"app.py": app, "README.md": card, "requirements.txt": f"{needed}\n"}
    return Upload(repo_id, "space", tuple((name, text.encode()) for name, text in files.items()))
