"""The Space of the metric: paste predicted ids, masks and keywords, see the IoU."""

import evaluate

from fivl_hf.evaluation.spaces import Field, metric_page, parse_lines
from fivl_hf.show.gradio_pages import launch

METRIC = evaluate.load("vision_segmentation.py")
EXAMPLE = ("[7, 7, 9, 9]", "[1, 0, 0, 0]", "7", "")
EXPLANATION = """\
Do the image tokens that predict an expression's keyword lie where its mask is? The language-model head is read at every
image token; intersection over union with the tokens under the mask, averaged over samples. **1**: the same tokens.
**0**: none in common.

A sample is one key expression; one sample per line in the first three boxes.
"""
FIELDS = (
    Field("Predictions", "A JSON list per line: the most likely vocabulary id at each image token", EXAMPLE[0]),
    Field("Masks", "A JSON list per line: 1 where the mask covers the image token, else 0", EXAMPLE[1]),
    Field("Keywords", "A word per line, such as cat; without a tokenizer below, its vocabulary id", EXAMPLE[2]),
    Field("Tokenizer", "The model's name on the Hub, such as llava-hf/llava-1.5-7b-hf", EXAMPLE[3], lines=1),
)


def score(predicted: str, masks: str, keywords: str, tokenizer: str) -> str:
    """Return the metric's result as Markdown."""
    try:
        given, covered = parse_lines(predicted, "Predictions"), parse_lines(masks, "Masks")
        ids = keyword_ids(keywords, tokenizer.strip())
        if not given or not len(given) == len(covered) == len(ids):
            return f"A line per sample in each box: there are {len(given)}, {len(covered)} and {len(ids)}."
        result = METRIC.compute(predictions=given, references=covered, keyword_ids=list(ids.values()))
    except (ValueError, TypeError, IndexError, OSError) as error:
        return f"This could not be read: {str(error).splitlines()[0]}"
    iou = "undefined: no mask covers a token" if result["iou"] is None else f"{result['iou']:.3f}"
    used = ", ".join(f"{word} = {id}" for (_, word), id in ids.items())
    return f"## IoU {iou}\n\n{result['n']} samples, {result['skipped']} without a masked token. Keyword ids: {used}."


def keyword_ids(keywords: str, tokenizer: str) -> dict[tuple[int, str], int]:
    """Return the vocabulary id of each line's keyword."""
    words = [line.strip() for line in keywords.splitlines() if line.strip()]
    if not tokenizer:
        if wrong := [word for word in words if not word.isdecimal()]:
            raise ValueError(f"{wrong[0]!r} is not a vocabulary id: name the model's tokenizer to use words")
        return {(number, word): int(word) for number, word in enumerate(words)}
    from transformers import AutoTokenizer

    from fivl_hf.keywords import word_token_id

    known = AutoTokenizer.from_pretrained(tokenizer)
    found = {(number, word): word_token_id(known, word) for number, word in enumerate(words)}
    if missing := [word for (_, word), id in found.items() if id is None]:
        raise ValueError(f"the tokenizer does not know {missing[0]!r}")
    return {key: id for key, id in found.items() if id is not None}


demo = metric_page("Vision segmentation", EXPLANATION, FIELDS, score)

if __name__ == "__main__":
    launch(demo)
