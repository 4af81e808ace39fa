"""Stories: traces that waited for a person, and those that go on with them, told as one."""

from __future__ import annotations

from collections.abc import Sequence

from . import form, model


def summarize_story(story: Sequence[model.StoredTrace]) -> dict[str, str]:
    """Return the fact about a story as a whole: its traces, how long it took and what it cost; nothing of one trace."""
    if len(story) < 2:
        return {}
    end = max(one.start_ms + (one.duration_ms or 0) for one in story)
    costs = [one.cost for one in story if one.cost is not None]
    pieces = [form.format_quantity(len(story), "trace"), form.format_duration(end - story[0].start_ms)]
    return {"story": ", ".join([*pieces, *([form.format_cost(sum(costs))] if costs else [])])}


def describe_wait(trace: model.StoredTrace, story: Sequence[model.StoredTrace]) -> str:
    """Return how long a trace waited for its answer, or since when it waits."""
    ended = trace.start_ms + (trace.duration_ms or 0)
    answers = [one for one in story if one.resumes == trace.id]
    if not answers:
        return f"waits for an answer since {form.format_full_time(ended)}"
    first = min(answers, key=lambda one: one.start_ms)
    return f"answered after {form.format_duration(max(0.0, first.start_ms - ended))}"
