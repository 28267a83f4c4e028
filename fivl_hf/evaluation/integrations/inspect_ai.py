"""Visual reliance as a task of inspect-ai: ``inspect eval fivl_hf/vrs --model openai/... -T dataset=... -T split=...``.

A sample is a question; the solver asks it under every condition; its score has a value for each. The answers are in the
log, so that ``inspect score`` scores them again without a model.
"""

from collections.abc import Sequence
from typing import Any

from anyio import to_thread
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import (
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    ContentImage,
    ContentText,
    GenerateConfig,
    ModelOutput,
    get_model,
)
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, metric, scorer
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.util import collect

from fivl_hf.evaluation.integrations.shared import images_under, metrics, scored_answer
from fivl_hf.evaluation.plan import DEFAULT_CONDITIONS, Plan
from fivl_hf.evaluation.scorers import default_scorer
from fivl_hf.evaluation.scorers import scorer as scorer_of
from fivl_hf.show.pages import picture_url
from fivl_hf.storage import load_rows

__all__ = ["visual_reliance", "vrs"]

_ROLES = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}
# In the store of a sample: its answers by condition.
_ANSWERS, _REFUSED = "fivl_answers", "fivl_refused"


@task
def vrs(
    dataset: str,
    split: str,
    config: str | None = None,
    conditions: str | Sequence[str] = DEFAULT_CONDITIONS,
    scorer: str | None = None,
    prompt_suffix: str | None = None,
    evidence: str = "boxes",
    dilation: float = 0.0,
    seed: int = 0,
    max_tokens: int = 32,
) -> Task:
    """Measure a model's Visual Reliance Score on FiVL rows.

    Args:
        dataset: folder or Hub id.
        split: of the dataset.
        config: the dataset's configuration.
        conditions: names, or one text with commas between them; see :mod:`fivl_hf.evaluation.conditions`.
        scorer: see :mod:`fivl_hf.evaluation.scorers`; the benchmark's own if not given.
        prompt_suffix: added to every question; the benchmark's own if not given.
        evidence: "boxes" or "masks".
        dilation: pixels by which the evidence grows on each side.
        seed: of the random boxes.
        max_tokens: longest answer.
    """
    rows = load_rows(dataset, split, config)
    names = [name.strip() for name in conditions.split(",")] if isinstance(conditions, str) else list(conditions)
    plan = Plan(rows, names, prompt_suffix=prompt_suffix, seed=seed, evidence=evidence, dilation=dilation)
    return Task(
        dataset=MemoryDataset(_samples(plan), name=f"{dataset}, {split}"),
        solver=ask_under_conditions(rows, seed=seed, masks=evidence == "masks", dilation=dilation),
        scorer=visual_reliance(scorer or default_scorer(plan.source)),
        config=GenerateConfig(max_tokens=max_tokens, temperature=0.0),
    )


def _samples(plan: Plan) -> list[Sample]:
    samples: dict[str, Sample] = {}
    for request in plan:
        question = request.question
        sample = samples.setdefault(
            request.id,
            Sample(
                input=[_ROLES[each["role"]](content=each["content"]) for each in request.messages],
                target=list(question.answers),
                id=request.id,
                metadata={
                    "row": len(samples),
                    "conditions": [],
                    "picture": question.picture,
                    "category": question.category,
                    "has_evidence": question.has_evidence,
                    "overlap": 0.0,
                    "others": [],
                },
            ),
        )
        about = sample.metadata or {}
        about["conditions"].append(request.condition)
        about["others"] = about["others"] or request.others
        about["overlap"] = max(about["overlap"], request.overlap)
    return list(samples.values())


@solver
def ask_under_conditions(rows: Any, **how: Any) -> Solver:
    """Ask a sample's question under each of its conditions.

    Args:
        rows: of the dataset; a sample's ``row`` is the number of its own.
        how: options of :func:`fivl_hf.evaluation.plan.planned`.
    """

    async def solve(state: TaskState, generate: Generate) -> TaskState:  # noqa: ARG001
        async def ask(condition: str) -> ModelOutput:
            content = await to_thread.run_sync(shown, condition)
            return await get_model().generate([*before, ChatMessageUser(content=content)])

        def shown(condition: str) -> list[Any]:
            images = images_under(rows[state.metadata["row"]], condition, others=state.metadata["others"], **how)
            return [*(ContentImage(image=picture_url(image)) for image in images), ContentText(text=last.text)]

        *before, last = state.messages
        conditions = state.metadata["conditions"]
        outputs = dict(zip(conditions, await collect(*map(ask, conditions)), strict=True))
        state.store.set(_ANSWERS, {name: output.completion for name, output in outputs.items()})
        state.store.set(_REFUSED, [name for name, output in outputs.items() if _refused(output)])
        state.output = outputs["original"]
        state.messages.append(state.output.message)
        return state

    return solve


def _refused(output: ModelOutput) -> bool:
    content = output.message.content
    parts = [] if isinstance(content, str) else content
    return output.stop_reason == "content_filter" or any(getattr(part, "refusal", None) for part in parts)


@metric
def reliance(seed: int = 0) -> Metric:
    """Compute the Visual Reliance Score, its interval, its control and the accuracies.

    Args:
        seed: of the bootstrap.
    """

    def compute(scores: list[SampleScore]) -> dict[str, float | None]:
        answers = []
        for sample in scores:
            about, parsed = sample.sample_metadata or {}, (sample.score.metadata or {}).get("parsed", {})
            kept = {name: about[name] for name in ("picture", "category", "has_evidence", "overlap")}
            answers += [
                scored_answer(str(sample.sample_id), name, value, parsed=parsed.get(name, True), **kept)
                for name, value in sample.score.value.items()
            ]
        return metrics(answers, seed=seed)

    return compute


@scorer(metrics=[reliance()])
def visual_reliance(scoring: str = "exact") -> Scorer:
    """Score the answers under every condition.

    Args:
        scoring: name of one of :mod:`fivl_hf.evaluation.scorers`.
    """
    score_answer = scorer_of(scoring)

    async def score(state: TaskState, target: Target) -> Score:
        answers: dict[str, str] = state.store.get(_ANSWERS, {})
        refused = state.store.get(_REFUSED, [])
        values = {name: None if name in refused else score_answer(text, list(target)) for name, text in answers.items()}
        return Score(
            value={name: value or 0.0 for name, value in values.items()},
            answer=answers.get("original"),
            explanation="\n".join(f"{name}: {text}" for name, text in answers.items()),
            metadata={"parsed": {name: value is not None for name, value in values.items()}},
        )

    return score
