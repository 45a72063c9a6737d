"""The ledger of YouTube's allowances: days of California, processes that share it, and what hypothesis thinks of."""
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avmatch.config import QuotaError, load_config
from avmatch.quota import PACIFIC, SEARCH, UNITS, Ledger, make_ledger, next_reset, pacific_day
from avmatch.state import open_state
from avmatch.workspace import Workspace

AWARE = st.datetimes(min_value=datetime(2007, 3, 12), max_value=datetime(2037, 1, 1), timezones=st.sampled_from(
    [timezone.utc, ZoneInfo("Europe/Berlin"), ZoneInfo("America/Los_Angeles"), ZoneInfo("Asia/Kathmandu"), ZoneInfo("Pacific/Kiritimati")]))


def utc(*when): return datetime(*when, tzinfo=timezone.utc)


@pytest.fixture
def state(tmp_path):
    with open_state(Workspace(tmp_path / "data")) as state: yield state


class Clock:
    "A clock that stands until it is turned."
    def __init__(self, *when): self.now = utc(*when)
    def __call__(self): return self.now


@pytest.mark.parametrize(("moment", "day", "reset"), [
    (utc(2026, 3, 8, 7, 59), "2026-03-07", utc(2026, 3, 8, 8)),      # the last minute of the last day of winter time
    (utc(2026, 3, 8, 8), "2026-03-08", utc(2026, 3, 9, 7)),          # a day of 23 hours begins
    (utc(2026, 3, 9, 6, 59), "2026-03-08", utc(2026, 3, 9, 7)),
    (utc(2026, 3, 9, 7), "2026-03-09", utc(2026, 3, 10, 7)),
    (utc(2026, 11, 1, 7), "2026-11-01", utc(2026, 11, 2, 8)),        # a day of 25 hours begins
    (utc(2026, 11, 1, 8, 30), "2026-11-01", utc(2026, 11, 2, 8)),    # 01:30 for the first time
    (utc(2026, 11, 1, 9, 30), "2026-11-01", utc(2026, 11, 2, 8)),    # 01:30 for the second time
    (utc(2026, 11, 2, 7, 59), "2026-11-01", utc(2026, 11, 2, 8)),
    (utc(2026, 12, 31, 12), "2026-12-31", utc(2027, 1, 1, 8)),
])
def test_days_of_california(moment, day, reset):
    assert (pacific_day(moment), next_reset(moment)) == (day, reset)


@given(AWARE)
def test_the_reset_is_the_next_change_of_the_day(moment):
    reset = next_reset(moment)
    at = moment.astimezone(timezone.utc)
    assert timedelta(0) < reset - at <= timedelta(hours=25)
    assert pacific_day(reset) > pacific_day(at)
    assert pacific_day(reset - timedelta(microseconds=1)) == pacific_day(at)
    assert reset.astimezone(PACIFIC).time().isoformat() == "00:00:00"


def test_a_run_over_midnight_gets_a_new_allowance(state):
    clock = Clock(2026, 11, 1, 7, 59, 59)
    ledger = Ledger(state, {SEARCH: 2, UNITS: 5}, clock)
    ledger.charge(SEARCH)
    ledger.charge(SEARCH)
    clock.now += timedelta(seconds=1)   # 00:59:59 of the same day by the longer clock: still 1 November there
    with pytest.raises(QuotaError) as caught: ledger.charge(SEARCH)
    clock.now = caught.value.reset_at - timedelta(microseconds=1)
    with pytest.raises(QuotaError): ledger.charge(SEARCH)
    clock.now = caught.value.reset_at
    ledger.charge(SEARCH)
    assert (ledger.left(SEARCH), ledger.left(UNITS)) == (1, 5)
    assert (state.spent(SEARCH, "2026-11-01"), state.spent(SEARCH, "2026-11-02")) == (2, 1)


def test_the_server_is_believed_until_midnight(state):
    clock = Clock(2026, 7, 1, 12)
    ledger = Ledger(state, clock=clock)
    ledger.charge(SEARCH)
    ledger.mark_exhausted(SEARCH)
    with pytest.raises(QuotaError, match=r"2026-07-02 07:00 UTC.*the same command"): ledger.charge(SEARCH)
    ledger.charge(UNITS)
    clock.now = utc(2026, 7, 2, 7)
    assert ledger.left(SEARCH) == 100


def test_the_ledger_outlives_the_process(tmp_path):
    workspace = Workspace(tmp_path / "data")
    config = load_config({"ingest": {"searches_a_day": 5}}).ingest
    program = ("import sys; from avmatch.config import load_config; from avmatch.quota import make_ledger; from avmatch.state import open_state\n"
               "from avmatch.workspace import Workspace\n"
               "ledger = make_ledger(open_state(Workspace(sys.argv[1])), load_config({'ingest': {'searches_a_day': 5}}).ingest)\n"
               "for _ in range(2): ledger.charge('search')\n"
               "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    day = pacific_day(datetime.now(timezone.utc))
    killed = subprocess.run([sys.executable, "-c", program, str(workspace.root)], capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    if day != pacific_day(datetime.now(timezone.utc)): pytest.skip("midnight in California in the middle of the test")
    with open_state(workspace) as state: assert make_ledger(state, config).left(SEARCH) == 3


def test_two_processes_do_not_spend_more_than_there_is(tmp_path):
    program = ("import sys; from datetime import datetime, timezone; from avmatch.config import QuotaError; from avmatch.quota import Ledger\n"
               "from avmatch.state import open_state; from avmatch.workspace import Workspace\n"
               "ledger, n = Ledger(open_state(Workspace(sys.argv[1])), {'search': 100}, lambda: datetime(2026, 1, 1, tzinfo=timezone.utc)), 0\n"
               "try:\n    while True: ledger.charge('search'); n += 1\n"
               "except QuotaError: print(n)")
    both = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "data")], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sum(int(p.communicate()[0]) for p in both) <= 100
    with open_state(Workspace(tmp_path / "data")) as state: assert state.spent("search", "2025-12-31") == 100


@given(st.lists(st.sampled_from(["charge", "server says no", "an hour"]), max_size=60))
def test_never_more_than_allowed(steps):
    "Whatever happens in whatever order, no day sees more requests than its allowance."
    class Memory:
        "The two functions of the state that the ledger needs."
        def __init__(self): self.days = {}
        def spent(self, bucket, day): return self.days.get((bucket, day), 0)
        def spend(self, bucket, day, units):
            self.days[bucket, day] = self.spent(bucket, day) + units
            return self.days[bucket, day]
    clock, sent = Clock(2026, 3, 8, 6, 30), {}
    ledger = Ledger(Memory(), {SEARCH: 3}, clock)
    for step in steps:
        day = pacific_day(clock())
        if step == "an hour": clock.now += timedelta(hours=1)
        elif step == "server says no":
            ledger.mark_exhausted(SEARCH)
            sent[day] = 3
        else:
            try: ledger.charge(SEARCH)
            except QuotaError as e: assert sent[day] >= 3 and e.reset_at == next_reset(clock())
            else: sent[day] = sent.get(day, 0) + 1
        assert ledger.left(SEARCH) == 3 - sent.get(pacific_day(clock()), 0)
    assert all(n <= 3 for n in sent.values())
