"""One point: predicted first, then compared with what was published."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from msgspec import Struct, field

from wherry.base.errors import InputError, Refused
from wherry.validate.point import Point
from wherry.validate.prediction import Family, Known, Prediction, Shape
from wherry.validate.question import question_of
from wherry.validate.units import in_unit, unit_word

_WORDS = {
    "offload": {"offload", "push", "push-down", "pushdown", "rpq", "near", "dpu", "device"},
    "host": {"host", "stay", "no offload", "no-offload", "pq", "cpu", "client"},
}
_FLAT = 0.25
"""Growth from the first element to the second up to which a curve starts flat."""


class Outcome(Struct, frozen=True):
    """A point's prediction beside its published value.

    Attributes
    ----------
    predicted, published : number, list or str
        In the point's unit.
    error_pct : float or None
        Signed, (predicted - published) / published; of a sweep the mean of the elements' absolute
        errors, without those that set a figure. None for decisions, bounds and bare intervals.
    errors_pct : list of float or None
        Of a sweep, element by element; None for an element that set a figure.
    bounds : pair of float or None
        What the published value must lie between.
    verdict : str
        "inside", "outside", "right", "wrong" or "".
    shape : dict
        Of a sweep: what was looked for, where it is predicted and published, and whether the same.
    """

    id: str
    kind: str
    subject: str
    unit: str
    predicted: Any
    published: Any
    error_pct: float | None
    mechanism: str
    profiles: tuple[str, ...]
    errors_pct: list[float | None] = field(default_factory=list)
    bounds: tuple[float, float] | None = None
    verdict: str = ""
    shape: dict[str, Any] = field(default_factory=dict)
    remark: str = ""
    evidence: str = ""


class Refusal(Struct, frozen=True):
    """A point that is not predicted, and why."""

    id: str
    reason: str


def judge(point: Point, family: Family, known: Known) -> Outcome | Refusal:
    """Predict a point and compare, or say why not; an error of the point's file is a reason too."""
    if point.kind == "calibration":
        reason = f"calibration: sets {family.figures(point.workload)}"
        return Refusal(point.id, reason + _in_sample(point, family, known))
    if point.kind == "method":
        return Refusal(point.id, "method: about another simulator's error, not about a device")
    try:
        return _compared(point, family.predict(question_of(point), known))
    except Refused as error:
        return Refusal(point.id, "; ".join(error.reasons) or error.message)
    except InputError as error:
        return Refusal(point.id, str(error))


def _in_sample(point: Point, family: Family, known: Known) -> str:
    """Give, in words, what the model makes of a single value that may have set its figures."""
    try:
        amounts = family.predict(question_of(point), known).amounts
        again = [in_unit(amount, point.unit) for amount in amounts]
    except InputError:
        return ""
    if len(again) != 1 or not isinstance(point.value, int | float):
        return ""
    return f"; the model gives {again[0]:.4g} for {point.value:.4g} {unit_word(point.unit)}"


def _compared(point: Point, prediction: Prediction) -> Outcome:
    if prediction.winner:
        return _decided(point, prediction)
    if point.kind == "decision":
        raise Refused("decision", ["this source's decisions have no model"])
    if not prediction.amounts:
        return _within(point, prediction)
    predicted = [in_unit(amount, point.unit) for amount in prediction.amounts]
    published = point.value if isinstance(point.value, list) else [point.value]
    if len(published) != len(predicted) or any(isinstance(item, list) for item in published):
        reason = f"{len(predicted)} values are predicted, but the point publishes {point.value!r}"
        raise Refused("value", [reason])
    if 0 in published:
        raise Refused("value", ["a published value is 0: no error can be relative to it"])
    errors = [
        None if place in prediction.fitted else (seen - said) / said * 100
        for place, (seen, said) in enumerate(zip(predicted, published, strict=True))
    ]
    tested = [error for error in errors if error is not None]
    if not tested:
        raise Refused("value", ["every value set a figure of the profile"])
    single = len(predicted) == 1
    bounds = _bounds(point, prediction)
    stated = point.kind in ("bound", "range")
    error = tested[0] if single else sum(map(abs, tested)) / len(tested)
    return Outcome(
        predicted=predicted[0] if single else predicted,
        published=point.value,
        error_pct=None if stated else error,
        errors_pct=[] if single else errors,
        bounds=bounds,
        verdict=_stated(error) if stated else "",
        shape=_shape(prediction.shape, predicted, published),
        **_common(point, prediction),
    )


def _stated(error: float) -> str:
    """Give whether a limit that a source states, and did not measure, is the predicted one."""
    return "same limit" if abs(error) < 0.5 else f"other limit ({error:+.1f} %)"


def _common(point: Point, prediction: Prediction) -> dict[str, Any]:
    return {
        "id": point.id,
        "kind": point.kind,
        "subject": prediction.subject,
        "unit": point.unit,
        "mechanism": prediction.mechanism,
        "profiles": tuple(profile.device.name for profile in prediction.profiles),
        "remark": prediction.remark,
        "evidence": point.evidence,
    }


def _decided(point: Point, prediction: Prediction) -> Outcome:
    said = str(point.value).strip().lower()
    names = [name for name, words in _WORDS.items() if said in words]
    if not names:
        possible = ", ".join(sorted(word for words in _WORDS.values() for word in words))
        raise Refused("value", [f"the winner {point.value!r} is not one of: {possible}"])
    return Outcome(
        predicted=prediction.winner,
        published=point.value,
        error_pct=None,
        verdict="right" if prediction.winner == names[0] else "wrong",
        **_common(point, prediction),
    )


def _within(point: Point, prediction: Prediction) -> Outcome:
    bounds = _bounds(point, prediction)
    published = point.value if isinstance(point.value, list) else [point.value]
    return Outcome(
        predicted=list(bounds or ()),
        published=point.value,
        error_pct=None,
        bounds=bounds,
        verdict=_inside(bounds, published),
        **_common(point, prediction),
    )


def _bounds(point: Point, prediction: Prediction) -> tuple[float, float] | None:
    low, high = prediction.low, prediction.high
    if low is None or high is None:
        return None
    return in_unit(low, point.unit), in_unit(high, point.unit)


def _inside(bounds: tuple[float, float] | None, published: Sequence[float]) -> str:
    if bounds is None:
        return ""
    return "inside" if all(bounds[0] <= item <= bounds[1] for item in published) else "outside"


def _shape(
    shape: Shape | None, predicted: Sequence[float], published: Sequence[float]
) -> dict[str, Any]:
    if shape is None:
        return {}
    where = _fall if shape == "cliff" else _bend
    seen, said = where(predicted), where(published)
    return {"test": shape, "predicted_at": seen, "published_at": said, "passed": seen == said}


def _fall(values: Sequence[float]) -> int:
    """Give the element before which the curve falls most."""
    return min(range(1, len(values)), key=lambda place: values[place] / values[place - 1])


def _bend(values: Sequence[float]) -> int:
    """Give the element at which a curve bends.

    One that starts flat bends where it has doubled; one that grows from the start, where its
    growth from one element to the next falls most.
    """
    steps = [after / before for before, after in pairwise(values)]
    if steps[0] < 1 + _FLAT:
        return next((n for n, value in enumerate(values) if value > 2 * values[0]), len(values))
    falls = [before - after for before, after in pairwise(steps)]
    return falls.index(max(falls)) + 2
