"""The circuit breaker and the pacer under any sequence of events."""
from datetime import datetime, timedelta, timezone

import hypothesis.strategies as st
from hypothesis import given
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from avmatch.failures import FAILURES, RATE_REASONS
from avmatch.pacing import MAX_PAUSE, CircuitBreaker, Pacer, Stopped, is_answer, seconds_left, waiting_time

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


class Clock:
    "A clock whose time passes by sleeping, and that remembers the sleeps."
    def __init__(self): self.time, self.slept = START, []
    def __call__(self): return self.time

    def sleep(self, seconds):
        assert seconds > 0
        self.slept.append(seconds)
        self.time += timedelta(seconds=seconds)


class Downloads(RuleBasedStateMachine):
    "A loop of downloads that ends in any way."
    def __init__(self):
        super().__init__()
        self.clock = Clock()
        self.breaker = CircuitBreaker(pause=900, max_pauses=3, sleep=self.clock.sleep, clock=self.clock)
        self.refused, self.stopped, self.opened_until = 0, False, START

    @rule(reason=st.sampled_from(["", *FAILURES]))
    def download(self, reason):
        if self.stopped: return
        n_sleeps, was_open = len(self.clock.slept), self.breaker.state == "open"
        try: self.breaker.wait()
        except Stopped as e:
            self.stopped = True
            assert self.refused == 4 and e.retry_at == self.opened_until   # after exactly so many, and it says when
            return
        assert self.breaker.state != "open" and self.clock() >= self.opened_until   # never a download during a pause
        assert len(self.clock.slept) == n_sleeps + was_open                         # and no pause without a refusal
        self.breaker.record(reason)
        if reason in RATE_REASONS:
            self.refused += 1
            self.opened_until = self.breaker.until
            assert self.breaker.state == "open"
            assert (self.opened_until - self.clock()).total_seconds() == min(900 * 2 ** (self.refused - 1), MAX_PAUSE)
        elif is_answer(reason):
            self.refused = 0
            assert self.breaker.state == "closed"

    @rule(seconds=st.floats(1, 10_000))
    def time_passes(self, seconds):
        if self.breaker.state != "open": self.clock.time += timedelta(seconds=seconds)

    @invariant()
    def pauses_are_bounded(self):
        assert all(seconds <= MAX_PAUSE for seconds in self.clock.slept)
        assert self.refused <= 4


TestDownloads = Downloads.TestCase


times = st.lists(st.floats(0, 7200), max_size=60)


@given(earlier=times, gaps=st.lists(st.floats(0, 600), max_size=60), per_hour=st.integers(1, 12))
def test_in_any_hour_no_more_than_allowed(earlier, gaps, per_hour):
    clock, begun = Clock(), []
    pacer = Pacer(per_hour, [START - timedelta(seconds=s) for s in earlier], sleep=clock.sleep, clock=clock)
    for gap in gaps:
        pacer.wait()
        begun.append(clock())
        clock.time += timedelta(seconds=gap)
    for i, last in enumerate(begun[per_hour:]): assert last - begun[i] >= timedelta(hours=1) - timedelta(microseconds=10)
    within = [s for s in earlier if s < 3600]
    if begun and len(within) >= per_hour: assert begun[0] > START


@given(n_left=st.integers(0, 60), earlier=times, per_hour=st.integers(1, 12))
def test_what_is_left_is_how_long_the_last_one_waits(n_left, earlier, per_hour):
    started = sorted(START - timedelta(seconds=s) for s in earlier)
    foretold, clock = seconds_left(n_left, started, START, per_hour=per_hour), Clock()
    pacer = Pacer(per_hour, started, sleep=clock.sleep, clock=clock)
    for _ in range(n_left): pacer.wait()
    assert abs(foretold - (clock() - START).total_seconds()) < 0.01


def test_a_clock_that_was_set_back_does_not_stop_the_run():
    assert waiting_time([START + timedelta(days=365)], START, per_hour=1) == 3600
