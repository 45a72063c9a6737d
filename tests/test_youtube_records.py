"""What YouTube may say of a video, and how long and when, with inputs that nobody thought of."""
import math
from datetime import datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from avmatch.config import MediaError, load_config
from avmatch.records import check_record, validate_record
from avmatch.youtube import feeds, read_duration, youtube_record

NOON = datetime(2026, 2, 1, 20, tzinfo=timezone.utc)

JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["PT12S", "live", "none", "12"]),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=6)
PARTS = {"snippet": ["title", "channelId", "channelTitle", "tags", "publishedAt", "categoryId", "liveBroadcastContent"],
         "status": ["uploadStatus", "privacyStatus", "license"], "contentDetails": ["duration"],
         "statistics": ["viewCount", "likeCount", "commentCount"]}
ITEMS = st.fixed_dictionaries({"id": st.from_regex(r"\A[A-Za-z0-9_-]{11}\Z")}, optional={
    part: JSON | st.fixed_dictionaries({}, optional=dict.fromkeys(names, JSON)) for part, names in PARTS.items()})


@given(ITEMS)
def test_any_item_gives_a_record_or_a_reason(item):
    try:
        record = youtube_record(item, link="https://host/{video_id}", fetched_at="2026-02-01T00:00:00+00:00")
        assert validate_record(record) == record
        check_record(record, max_duration=60)
    except MediaError as e: assert e.reason in ("live", "not_processed", "private", "no_duration", "too_long")


@given(st.integers(0, 400), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_durations(days, hours, minutes, seconds):
    text = "P" + f"{days}D" * (days > 0) + f"T{hours}H{minutes}M{seconds}S"
    assert read_duration(text) == days * 86_400 + hours * 3_600 + minutes * 60 + seconds


@given(JSON | st.from_regex(r"\A[-+]?P(\d{1,12}[YMWD])*(T(\d{1,9}([.,]\d{1,5})?[HMS])*)?\Z"))
def test_any_duration_is_a_length(text):
    assert 0 <= read_duration(text) < math.inf


@given(st.integers(1, 60), st.dates(min_value=datetime(2010, 1, 1).date(), max_value=datetime(2026, 1, 1).date()), st.integers(1, 400))
def test_windows_cover_every_moment(window_days, first, n_days):
    last = first + timedelta(days=n_days)
    config = load_config({"ingest": {"query": "x", "published_after": str(first), "published_before": str(last), "window_days": window_days}}).ingest
    spans = [(listing.after, listing.before) for listing in reversed(feeds(config, NOON)["search 'x'"])]
    assert (spans[0][0][:10], spans[-1][1][:10], len(spans)) == (str(first), str(last), math.ceil(n_days / window_days))
    assert all(before > after for (_, before), (after, _) in zip(spans, spans[1:], strict=False))   # neighbours overlap
