"""No sequence of calls over a tree of agents side by side uses more than the budget of its root."""

from dataclasses import dataclass, field
from datetime import timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, TimeoutError, TimeoutType

from orchestrator.budgets import Budget
from orchestrator.dispatch.limits.budget import Ledger
from orchestrator.dispatch.limits.counted import pause_before
from orchestrator.errors import BudgetExceededError

amounts = st.one_of(st.none(), st.integers(0, 40))
costs = st.one_of(st.sampled_from([0.0, 0.1, 0.3, 1.0]), st.floats(0, 5))
budgets = st.builds(Budget, tokens=amounts, steps=amounts, price=st.one_of(st.none(), costs))
names = st.sampled_from(["scout", "critic", "clerk"])
expectations = st.dictionaries(names, st.sampled_from([0.0, 0.5, 1.0, 3.0]))


@dataclass(frozen=True)
class Step:
    """One dispatch; of some no worker takes them."""

    tokens: int
    price: float
    taken: bool


@dataclass(frozen=True)
class HandOff:
    """A sub-agent; some cannot start, because their id is taken."""

    agent: str
    declared: Budget | None
    expected: dict[str, float]
    starts: bool


moves = st.one_of(
    st.builds(Step, tokens=st.integers(0, 20), price=costs, taken=st.booleans()),
    st.builds(
        HandOff,
        agent=names,
        declared=st.one_of(st.none(), budgets),
        expected=expectations,
        starts=st.booleans(),
    ),
)


@dataclass
class Running:
    """One agent of the tree, and what it used."""

    ledger: Ledger
    share: Budget
    tokens: int = 0
    steps: int = 0
    price: Fraction = field(default_factory=Fraction)

    def use(self, step: Step) -> None:
        self.tokens += step.tokens
        self.steps += 1
        self.price += Fraction(repr(step.price))

    def is_within(self, limit: Budget) -> bool:
        return (
            (limit.tokens is None or self.tokens <= limit.tokens)
            and (limit.steps is None or self.steps <= limit.steps)
            and (limit.price is None or self.price <= Fraction(repr(float(limit.price))))
        )


@given(
    budget=budgets,
    expected=expectations,
    moves=st.lists(st.tuples(st.integers(0, 5), moves), max_size=40),
)
def test_a_tree_of_agents_never_uses_more_than_its_root_has(
    budget: Budget, expected: dict[str, float], moves: list[tuple[int, Step | HandOff]]
) -> None:
    agents = [Running(Ledger(budget, expected), budget)]
    total = Running(agents[0].ledger, budget)
    for which, move in moves:
        agent = agents[which % len(agents)]
        before = agent.ledger.left
        try:
            if isinstance(move, Step):
                agent.ledger.reserve("step", tokens=move.tokens, price=move.price)
                if move.taken:
                    agent.use(move)
                    total.use(move)
                else:
                    agent.ledger.release(tokens=move.tokens, price=move.price)
                    assert agent.ledger.left == before
            else:
                share = agent.ledger.share(move.agent, move.declared)
                if move.starts:
                    # as its own run counts: from its header and its declaration
                    own = (move.declared or Budget()).merged(share)
                    agents.append(Running(Ledger(own, move.expected), own))
                else:
                    agent.ledger.give_back(move.agent, share)
                    assert agent.ledger.left == before
        except BudgetExceededError:
            assert agent.ledger.left == before
        assert total.is_within(budget)
        assert all(each.is_within(each.share) for each in agents)


def test_prices_add_up_as_they_are_written() -> None:
    ledger = Ledger(Budget(price=1.0))
    for _ in range(10):
        ledger.reserve("step", price=0.1)
    with pytest.raises(BudgetExceededError, match=r"it costs 0\.1, 0 of 1 are left"):
        ledger.reserve("step", price=0.1)


def test_a_refused_call_takes_nothing_and_says_all_that_is_short() -> None:
    ledger = Ledger(Budget(tokens=10, steps=5, price=1.0))
    with pytest.raises(BudgetExceededError, match="20 tokens, 10 of 10 are left; it costs 2, 1 of 1"):
        ledger.reserve("step answer", tokens=20, price=2.0)
    assert ledger.left == Budget(tokens=10, steps=5, price=1.0)


def test_sub_agents_share_what_they_do_not_declare() -> None:
    ledger = Ledger(Budget(tokens=100, steps=9), {"scout": 2, "critic": 0.5})
    # of the steps a quarter: there are two scouts to come, and the run itself
    assert ledger.share("critic", Budget(tokens=40)) == Budget(tokens=40, steps=2)
    assert ledger.share("scout") == Budget(tokens=20, steps=2)
    assert ledger.share("scout") == Budget(tokens=20, steps=2)
    assert ledger.left == Budget(tokens=20, steps=3)


POLICY = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    maximum_interval=timedelta(seconds=5),
    maximum_attempts=4,
    non_retryable_error_types=["Fatal", "TemporalTimeout:Heartbeat"],
)


def timed_out(kind: TimeoutType) -> TimeoutError:
    return TimeoutError("it timed out", type=kind, last_heartbeat_details=[])


def failed(cause: BaseException) -> FailureError:
    error = ActivityError(
        "it failed",
        scheduled_event_id=1,
        started_event_id=2,
        identity="",
        activity_type="step",
        activity_id="1",
        retry_state=None,
    )
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("cause", "done", "seconds"),
    [
        (ApplicationError("again"), 1, 1),
        (ApplicationError("again"), 2, 2),
        (ApplicationError("again"), 3, 4),
        (ApplicationError("again"), 4, None),
        (ApplicationError("later", next_retry_delay=timedelta(seconds=9)), 1, 9),
        (ApplicationError("never", non_retryable=True), 1, None),
        (ApplicationError("never", type="Fatal"), 1, None),
        (timed_out(TimeoutType.START_TO_CLOSE), 1, 1),
        (timed_out(TimeoutType.HEARTBEAT), 1, None),
        (timed_out(TimeoutType.SCHEDULE_TO_START), 1, None),
        (timed_out(TimeoutType.SCHEDULE_TO_CLOSE), 1, None),
    ],
)
def test_a_run_repeats_what_the_server_would(cause: FailureError, done: int, seconds: int | None) -> None:
    expected = None if seconds is None else timedelta(seconds=seconds)
    assert pause_before(failed(cause), POLICY, done) == expected
    if isinstance(cause, ApplicationError):
        assert pause_before(cause, POLICY, done) == expected


def test_pauses_grow_up_to_a_hundred_intervals_where_the_policy_does_not_say() -> None:
    unbounded = RetryPolicy(initial_interval=timedelta(seconds=1))
    assert pause_before(ApplicationError("again"), unbounded, 500) == timedelta(seconds=100)
