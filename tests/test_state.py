"""The state against a plain dict, with the file closed and opened in between; what records it takes; many writers; a full disk."""
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from avmatch.config import ArtifactError, MediaError
from avmatch.records import FIELD_TYPES, RECORD_FIELDS, SCHEMA_VERSION, make_record, validate_record
from avmatch.state import State, open_state
from avmatch.workspace import Workspace

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])   # a busy machine is no failure
IDS = st.sampled_from(["a", "b", "C", "über", "日本"])
STAGES = st.sampled_from(["ingest", "process"])
REASONS = st.sampled_from(["private", "network", "broken"])
RESULTS = st.dictionaries(st.text(max_size=3), st.none() | st.integers() | st.text(max_size=3), max_size=2)
WAITING = {"state": "pending", "reason": "", "detail": "", "attempts": 0, "inputs": "", "result": {}}


class Rows(RuleBasedStateMachine):
    "Any order of changes, done to a state and to a dict of what it should hold."
    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.state = State(Path(self.folder.name) / "state.db")
        self.rows, self.records, self.purged = {}, {}, set()

    def teardown(self):
        self.state.connection.close()
        self.folder.cleanup()

    def change(self, video_id, stage, **fields):
        self.rows[video_id, stage] = self.rows.get((video_id, stage), WAITING) | fields

    @rule()
    def reopen(self):
        self.state.connection.close()
        self.state = State(self.state.path)

    @rule(ids=st.lists(IDS), stage=STAGES)
    def add(self, ids, stage):
        self.state.add(ids, stage)
        for i in ids: self.change(i, stage)

    @rule(i=IDS, stage=STAGES)
    def start(self, i, stage):
        self.state.start(i, stage)
        attempts = self.rows.get((i, stage), WAITING)["attempts"]
        self.change(i, stage, state="running", reason="", detail="", attempts=attempts + 1)

    @rule(i=IDS, stage=STAGES, inputs=st.text(max_size=3), result=RESULTS)
    def finish(self, i, stage, inputs, result):
        self.state.finish(i, stage, inputs=inputs, result=result)
        self.change(i, stage, state="done", reason="", detail="", inputs=inputs, result=result)

    @rule(i=IDS, stage=STAGES, reason=REASONS, detail=st.text(max_size=5), inputs=st.text(max_size=3))
    def skip(self, i, stage, reason, detail, inputs):
        self.state.skip(i, stage, MediaError(detail, reason=reason), inputs=inputs)
        self.change(i, stage, state="skipped", reason=reason, detail=detail, inputs=inputs, result={})

    @rule(stage=STAGES)
    def recover(self, stage):
        running = [i for (i, s), row in self.rows.items() if s == stage and row["state"] == "running"]
        assert self.state.recover(stage) == len(running)
        for i in running: self.change(i, stage, state="pending")

    @rule(reason=REASONS, stage=STAGES | st.just(""))
    def reset(self, reason, stage):
        again = [key for key, row in self.rows.items() if row["state"] == "skipped" and row["reason"] == reason and stage in ("", key[1])]
        assert self.state.reset(reason=reason, stage=stage) == sorted({i for i, _ in again})
        for key in again: self.change(*key, state="pending", reason="", detail="", attempts=0, inputs="")

    @rule(i=IDS)
    def save_record(self, i):
        self.state.save_records([make_record(i, title="old"), make_record(i, title=i)])
        self.records[i] = make_record(i, title=i)

    @rule(i=IDS)
    def forget(self, i):
        gone = [key for key in self.rows if key[0] == i]
        assert self.state.forget(i) == bool(gone or i in self.records)
        for key in gone: del self.rows[key]
        self.records.pop(i, None)
        self.purged.add(i)

    @rule(ids=st.lists(IDS), stage=STAGES)
    def keep_only(self, ids, stage):
        self.state.keep_only(ids, stage)
        self.rows = {key: row for key, row in self.rows.items() if key[1] != stage or key[0] in ids}

    @invariant()
    def holds_what_the_dict_holds(self):
        items = self.state.items()
        assert [(i.video_id, i.stage) for i in items] == sorted(self.rows, key=lambda key: key[::-1])
        for item in items:
            assert {name: getattr(item, name) for name in WAITING} == self.rows[item.video_id, item.stage]
            assert self.state.get(item.video_id, item.stage) == item
        counts = Counter((stage, row["state"], row["reason"]) for (_, stage), row in self.rows.items())
        assert {(r["stage"], r["state"], r["reason"]): r["clips"] for r in self.state.table()} == counts
        for stage, state, reason in counts: assert len(self.state.items(stage, state, reason)) == sum(
            n for (s, t, r), n in counts.items() if (s, t) == (stage, state) and reason in ("", r))
        assert (self.state.records(), self.state.purged()) == (self.records, self.purged)


TestRows = Rows.TestCase
TestRows.settings = settings(CALM, max_examples=60, stateful_step_count=40)


# ---- records

VALUES = {str: st.text(max_size=10), int: st.integers(0, 10**20), list: st.lists(st.text(max_size=5), max_size=3),
          (int, float): st.floats(0, 1e9) | st.integers(0, 10**6)}
NAMES = st.text("abcXYZ019_-", min_size=1, max_size=20)
KNOWN = {name: st.none() | (NAMES.map(lambda n: n + ".webm") if name == "file" else VALUES[kinds])
         for name, kinds in FIELD_TYPES.items() if name not in ("video_id", "schema_version")}
RECORDS = st.builds(lambda i, known: make_record(i, **known), NAMES, st.fixed_dictionaries({}, optional=KNOWN))
TEXT = st.text(st.characters(), max_size=8)   # also half a surrogate pair, which JSON can name and no file can hold
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6)
ANYTHING = JSON | st.fixed_dictionaries({"video_id": NAMES}, optional=dict.fromkeys(RECORD_FIELDS[1:], JSON) | {"strange": JSON})


@CALM
@given(RECORDS)
def test_a_valid_record_stays_as_it_is(record):
    assert validate_record(record) == record == validate_record(json.loads(json.dumps(record)))


@settings(CALM, max_examples=50)
@given(st.lists(RECORDS, max_size=5, unique_by=lambda r: r["video_id"]))
def test_records_come_back_as_they_were(records):
    with tempfile.TemporaryDirectory() as folder:
        with open_state(Workspace(folder)) as state: state.save_records(records)
        with open_state(Workspace(folder)) as state: assert state.records() == {r["video_id"]: r for r in records}


@settings(CALM, max_examples=500)
@given(ANYTHING)
def test_anything_is_a_record_or_an_error(found):
    try: record = validate_record(found)
    except ArtifactError as e: assert str(e)
    else:
        assert tuple(record) == RECORD_FIELDS and record["schema_version"] == SCHEMA_VERSION and validate_record(record) == record
        json.dumps(record, ensure_ascii=False, allow_nan=False).encode()   # can be kept


@pytest.mark.parametrize("version", ["2", "new", [3], {"a": 1}, 2.5, True, -1, 3])
def test_a_version_that_is_none(version):
    with pytest.raises(ArtifactError, match="record a.*schema_version"): validate_record({"video_id": "a", "schema_version": version})


# ---- more than one process, and no room

WRITER = """
import sys
from avmatch.records import make_record
from avmatch.state import open_state
from avmatch.workspace import Workspace
name, root, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
with open_state(Workspace(root)) as state:
    print("ready", flush=True)
    sys.stdin.readline()
    for i in range(n):
        state.start(f"{name}{i}", "ingest")
        state.finish(f"{name}{i}", "ingest", result={"by": name})
        state.start("shared", "ingest")
        state.save_records([make_record(f"{name}{i}")])
        state.spend("units", "2026-01-01", 1)
"""


def test_two_processes_at_once_lose_nothing(tmp_path):
    both = [subprocess.Popen([sys.executable, "-c", WRITER, name, tmp_path, "100"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for name in "ab"]
    for process in both: assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in both:
        process.communicate(timeout=120)
        assert process.returncode == 0
    with open_state(Workspace(tmp_path)) as state:
        assert {i.video_id: i.result["by"] for i in state.items("ingest", "done")} == {f"{name}{i}": name for name in "ab" for i in range(100)}
        assert state.get("shared", "ingest").attempts == state.spent("units", "2026-01-01") == len(state.records()) == 200


CHANGES = {
    "add": lambda state: state.add([f"new{i:05}" for i in range(5000)], "ingest"),
    "finish": lambda state: state.finish("a", "ingest", result={"note": "x" * 100_000}),
    "skip": lambda state: state.skip("a", "ingest", MediaError("x" * 100_000, reason="network")),
    "save_records": lambda state: state.save_records([make_record(f"new{i}", title="x" * 1000) for i in range(100)]),
    "write_cursor": lambda state: state.write_cursor("search", {"page": "x" * 100_000}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_no_room_is_told_and_nothing_is_half_written(name, tmp_path):
    workspace = Workspace(tmp_path)
    with open_state(workspace) as state:
        state.start("a", "ingest")
        before = state.items()
        n_pages = state.connection.execute("PRAGMA page_count").fetchone()[0]
        state.connection.execute(f"PRAGMA max_page_count = {n_pages + 3}")
        with pytest.raises(ArtifactError, match="state.db cannot be written.*full.*free some space"): CHANGES[name](state)
        assert (state.items(), state.records(), state.read_cursor("search")) == (before, {}, None)
    with open_state(workspace) as state:   # there is room again
        assert state.items() == before
        CHANGES[name](state)
        assert (state.items(), state.records(), state.read_cursor("search")) != (before, {}, None)
