"""Asking a model every question under several conditions: original, evidence removed, random boxes, ..."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from tqdm.auto import tqdm

from fivl_hf import __version__
from fivl_hf.evaluation.answerers.local import TransformersAnswerer
from fivl_hf.evaluation.answerers.protocol import Answerer, Generated
from fivl_hf.evaluation.judge import AnswerScorer, answer_scorer
from fivl_hf.evaluation.plan import DEFAULT_CONDITIONS, Plan, PlannedRequest
from fivl_hf.evaluation.scorers import default_scorer
from fivl_hf.evaluation.summary import rescored, scored, summarize
from fivl_hf.evaluation.table import Answer, AnswerTable
from fivl_hf.supervision import listed_reasons

__all__ = ["ask", "evaluate_answers", "evaluate_reliance", "summary_of"]

_PACKAGES = ("transformers", "torch")


def evaluate_reliance(
    model: Any,
    processor: Any,
    rows: Iterable[Mapping[str, Any]],
    *,
    batch_size: int = 16,
    max_new_tokens: int = 32,
    **options: Any,
) -> tuple[dict[str, Any], AnswerTable]:
    """Ask a transformers model every question under each condition and score the answers.

    Args:
        rows: raw benchmark or conversation rows; questions without evidence count for accuracy only.
        options: those of :func:`evaluate_answers`.

    Returns, raises: as :func:`evaluate_answers`.
    """
    answerer = TransformersAnswerer(model, processor, batch_size=batch_size, max_new_tokens=max_new_tokens)
    return evaluate_answers(answerer, rows, **options)


def evaluate_answers(
    answerer: Answerer,
    rows: Iterable[Mapping[str, Any]],
    *,
    table: AnswerTable | None = None,
    conditions: Sequence[str] = DEFAULT_CONDITIONS,
    scorer_name: str | None = None,
    seed: int = 0,
    resamples: int = 10_000,
    **options: Any,
) -> tuple[dict[str, Any], AnswerTable]:
    """Ask every question under each condition and score the answers.

    Args:
        rows: raw benchmark or conversation rows; questions without evidence count for accuracy only.
        table: answers that are known already are not asked for again, new ones are added as they come.
        conditions: see :func:`fivl_hf.evaluation.conditions.apply`; "original" is always among them.
        scorer_name: see :func:`fivl_hf.evaluation.scorers.scorer`; by default the benchmark's, by the rows' source.
        seed: of the random boxes and the bootstrap.
        resamples: bootstrap resamples of the pictures.
        options: further ones of :class:`fivl_hf.evaluation.plan.Plan`.

    Returns:
        The summary (:func:`fivl_hf.evaluation.summary.summarize`) and the table.

    Raises:
        RowError: a row that does not fit the schema.
        ValueError: two questions of one id, an unknown condition or scorer.
    """
    table = AnswerTable() if table is None else table
    plan = Plan(rows, conditions, seed=seed, **options)
    chosen = scorer_name or default_scorer(plan.source)
    ask(answerer, plan, table, scorer_name=chosen, seed=seed)
    return summary_of(table, plan, chosen, seed=seed, resamples=resamples), table


def ask(
    answerer: Answerer,
    plan: Plan,
    table: AnswerTable,
    *,
    scorer_name: str,
    seed: int = 0,
    answerer_name: str = "",
    share: tuple[int, int] = (0, 1),
    known: AnswerTable | None = None,
) -> None:
    """Ask what is not in the table yet, and add the answers as they come.

    Args:
        answerer_name: the model, as it is recorded.
        share: number of this process and number of processes: each asks its share of the questions.
        known: the answers that all processes had at the start, where each writes a table of its own.

    Raises:
        ValueError: no question got an answer, in this run or before.
    """
    process, processes = share
    score = answer_scorer(scorer_name)
    about = {"seed": seed, "answerer": answerer_name, "versions": _versions()}
    pending = _Pending(plan, table if known is None else known, share)
    done = len(pending.known) // processes
    with tqdm(
        total=-(-plan.count // processes), initial=done, desc="Asking", unit="question", disable=process > 0
    ) as progress:
        for request, generated in answerer.answers(pending):
            table.add([_scored(request, generated, score, about)])
            progress.update()
    if process == 0 and not len(table) and (first := next(iter(pending), None)):
        reasons = listed_reasons(Counter(each.reason for each in answerer.unanswered))
        raise ValueError(
            f"no question got an answer ({reasons or 'none was given'}), the first being {first.id!r}: check that the "
            "answers belong to this dataset, or that the model works"
        )


def summary_of(
    table: Iterable[Answer], plan: Plan, scorer_name: str, *, seed: int = 0, resamples: int = 10_000
) -> dict[str, Any]:
    """Return the summary of the answers to a plan's requests.

    Raises:
        ValueError: see :func:`fivl_hf.evaluation.summary.summarize`.
    """
    # Answers of an earlier run may have been scored by another scorer, or asked under further conditions, too.
    return summarize(
        rescored(table, scorer_name),
        conditions=plan.conditions,
        scorer_name=scorer_name,
        seed=seed,
        resamples=resamples,
    )


class _Pending:
    """The requests of a plan that a table has no answer to; those of one process, if there are several."""

    def __init__(self, plan: Plan, known: AnswerTable, share: tuple[int, int]) -> None:
        self.known = known
        self._plan, self._share = plan, share

    def __iter__(self) -> Iterator[PlannedRequest]:
        process, processes = self._share
        turn = 0
        for request in self._plan:
            if (request.id, request.condition) not in self.known:
                if turn % processes == process:
                    yield request
                turn += 1


def _scored(request: PlannedRequest, generated: Generated, score: AnswerScorer, about: Mapping[str, Any]) -> Answer:
    question = request.question
    answer = Answer(
        id=request.id,
        condition=request.condition,
        prompt=request.messages[-1]["content"],
        references=question.answers,
        answer=generated.text,
        score=0.0,
        category=question.category,
        has_evidence=question.has_evidence,
        boxes=request.boxes,
        overlap=request.overlap,
        picture=question.picture,
        finish_reason=generated.finish_reason,
        latency=None if generated.latency is None else round(generated.latency, 4),
        **about,
    )
    return scored(answer, score)


def _versions() -> str:
    return ", ".join([f"fivl-hf {__version__}", *(f"{name} {version(name)}" for name in _PACKAGES)])
