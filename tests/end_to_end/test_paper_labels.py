"""Labels of 2,000 random rows against a loop that was written from the paper's rules alone, for both protocols."""

import random

import numpy as np
import pytest
import torch
from families import make
from PIL import Image

from fivl_hf.images import image_bytes
from fivl_hf.keywords import word_token_id
from fivl_hf.masks import encode_mask
from fivl_hf.training.collator import FiVLCollator
from fivl_hf.training.config import VisionModelingOptions

ROWS, BATCH, SIDE, CELLS = 2_000, 50, 56, 8
SHAPES = ("circle", "square", "ring", "cross")


def random_row(number):
    """An image of random shape with up to four rectangles: large ones, overlapping ones, some without a noun."""
    draw = random.Random(number)
    width, height = draw.randint(20, 90), draw.randint(20, 90)
    names = [f"red {shape}" for shape in draw.sample(SHAPES, draw.randint(0, 4))]
    answer = " ".join(["It", "is", *names]) + "."
    expressions, masks = [], []
    for name in names:
        mask = np.zeros((height, width), dtype=bool)
        x, y = draw.randrange(width), draw.randrange(height)
        mask[y : y + draw.randint(1, height), x : x + draw.randint(1, width)] = True
        masks.append(mask)
        # No noun, one, or two of which one is drawn at random.
        shape = name.split()[1]
        keywords = draw.choice([[], *[[shape]] * 7, [shape, draw.choice(SHAPES)]])
        start = answer.index(name)
        if draw.random() < 0.1:
            start = -1  # found through the question: the answer's own nouns name it in the paper
        expressions.append(
            {
                "turn": 0,
                "text": name,
                "start": start,
                "end": start + len(name) if start >= 0 else -1,
                "keywords": keywords,
                "boxes": [],
                "score": None,
                "image": 0,
            }
        )
    row = {
        "id": str(number),
        "images": [{"bytes": image_bytes(Image.new("RGB", (width, height))), "path": None}],
        "messages": [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": answer}],
        "key_expressions": expressions,
        "masks": [{"bytes": encode_mask(mask), "path": None} for mask in masks],
    }
    return row, masks


def cell_edges(length, square, crop):
    """Where the eight cells of a side begin and end, in source pixels."""
    if crop is None:
        # Padded to a square, the image in the middle.
        before = (square - length) // 2
        return [cell * square / CELLS - before for cell in range(CELLS + 1)]
    resized, start = crop
    return [(start + cell * SIDE / CELLS) * length / resized for cell in range(CELLS + 1)]


def touches(mask, x0, x1, y0, y1):
    """Whether any set pixel shares area with a box that may lie beyond the image."""
    height, width = mask.shape
    rows = slice(max(0, int(np.floor(y0 + 1e-9))), max(0, min(height, int(np.ceil(y1 - 1e-9)))))
    columns = slice(max(0, int(np.floor(x0 + 1e-9))), max(0, min(width, int(np.ceil(x1 - 1e-9)))))
    return bool(mask[rows, columns].any())


def naive_cells(masks, pad):
    """Which cells see the image, and which of them each mask touches."""
    height, width = masks[0].shape if masks else (1, 1)
    if pad:
        xs, ys = (cell_edges(length, max(width, height), None) for length in (width, height))
    else:
        short = min(width, height)
        # The shorter side becomes 56, the longer one in proportion; the middle is kept.
        resized = [SIDE if length == short else int(SIDE * length / short) for length in (width, height)]
        xs, ys = (
            cell_edges(length, None, (scaled, (scaled - SIDE) // 2))
            for length, scaled in zip((width, height), resized, strict=True)
        )
    cells = [(xs[c], xs[c + 1], ys[r], ys[r + 1]) for r in range(CELLS) for c in range(CELLS)]
    sees = [min(x1, width) - max(x0, 0) > 1e-6 and min(y1, height) - max(y0, 0) > 1e-6 for x0, x1, y0, y1 in cells]
    return sees, [[touches(mask, *cell) for cell in cells] for mask in masks]


def naive_nouns(row, expression, protocol):
    """The nouns of which one is an expression's keyword."""
    if protocol == "paper" and expression["start"] < 0:
        # "It is red circle red ring.": the shapes are its nouns.
        answer = row["messages"][1]["content"]
        return [word for word in answer.strip(".").split() if word in SHAPES]
    return expression["keywords"]


def naive_labels(row, sees, covered, protocol, token_of):
    """Patch by patch, the labels it may have: of the first named expression whose mask is small and touches it."""
    total = len(sees) if protocol == "paper" else sum(sees)
    labels = []
    for number in range(len(sees)):
        label = {-100}
        for expression, cover in zip(row["key_expressions"], covered, strict=True):
            nouns = naive_nouns(row, expression, protocol)
            if cover[number] and nouns and sum(cover) <= 0.3 * total:
                label = {token_of(noun) for noun in nouns}
                break
        labels.append(label)
    return labels


def batch_labels(collator, rows):
    """The labels of each row's image tokens; no other token has one."""
    batch = collator(list(rows))
    image = batch["input_ids"] == collator.image_token_id
    assert torch.all(batch["vision_labels"][~image] == -100)
    return [labels[tokens].tolist() for labels, tokens in zip(batch["vision_labels"], image, strict=True)]


@pytest.mark.parametrize("family", ["LLaVA-1.5, pad", "LLaVA-1.5, crop"])
def test_labels_are_those_of_the_papers_rules(family):
    processor, model = make(family, SIDE)
    differ, drawn = 0, set()
    collators = {
        protocol: FiVLCollator(
            processor=processor,
            model_config=model.config,
            answers_only=True,
            options=VisionModelingOptions(protocol=protocol),
        )
        for protocol in ("default", "paper")
    }
    for start in range(0, ROWS, BATCH):
        rows, masks = zip(*map(random_row, range(start, start + BATCH)), strict=True)
        labels = {protocol: batch_labels(collator, rows) for protocol, collator in collators.items()}
        for place, row in enumerate(rows):
            sees, covered = naive_cells(masks[place], "pad" in family)
            for protocol, found in labels.items():
                expected = naive_labels(row, sees, covered, protocol, lambda w: word_token_id(processor.tokenizer, w))
                assert len(found[place]) == len(expected)
                for label, allowed in zip(found[place], expected, strict=True):
                    assert label in allowed, (row["id"], protocol)
                    drawn.add((len(allowed), label))
            named_otherwise = any(each["start"] < 0 for each in row["key_expressions"])
            differ += not named_otherwise and labels["default"][place] != labels["paper"][place]
    # Both nouns of two are drawn, each shape in its turn.
    assert len({label for count, label in drawn if count == 2}) == len(SHAPES)
    # But for names, only padding makes a difference.
    assert (differ > 50) == ("pad" in family)
    assert differ == 0 or "pad" in family
