"""`make demo TASK=...`: the queues lead to the planted errors."""

from __future__ import annotations

import pytest
from threadpoolctl import threadpool_limits

from examples.structured_demo import MAKERS, new_run, shows_error
from service.client import LossClient


@pytest.mark.slow
@pytest.mark.parametrize("task", MAKERS)
def test_units_show_more_planted_errors_than_chance(task: str, loss_client: LossClient) -> None:
    with threadpool_limits(1):
        planted = MAKERS[task]()
    errors = planted.errors
    damaged = sum(bool(error.any()) for error in errors)
    run = new_run(loss_client, f"demo-{task}", planted)
    run = new_run(loss_client, f"demo-{task}", planted)  # the demo can be repeated
    rows = run.create_queue("top_loss", budget=damaged, units=True, at_most={"count": 1})["rows"]
    found = sum(shows_error(row, errors) for row in rows)
    assert len({row["id"] for row in rows}) == damaged
    # Of random whole examples, wherever in them the error is.
    by_chance = damaged * damaged / len(errors)
    assert found > 2 * by_chance
