"""Own catalogues: folders and tables as people and programs make them, and as somebody with bad intentions would."""
import csv
import json
import sys

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from media_server import make_clip, media_server

from avmatch.config import IngestError, MediaError, load_config
from avmatch.failures import FAILURES
from avmatch.ingest import run_ingest
from avmatch.media import read_frames, write_video
from avmatch.process import run_process
from avmatch.recommend import list_soundtracks
from avmatch.records import FIELD_TYPES, safe_id, validate_record
from avmatch.sources import FolderSource, TableSource, read_row, read_table, stable_id
from avmatch.workspace import Workspace, load_manifest

ROWS = [{"file": "a day.mp4", "title": "Día, «one»", "license": "CC BY 4.0", "credit": "Ann / example.org", "author": "Ann"},
        {"url": "https://example.org/rain.mp4", "title": "Rain", "license": "CC0", "credit": "", "author": "Bob"}]


@pytest.fixture(scope="module")
def clip(): return make_clip()


@pytest.fixture
def folder(tmp_path, clip):
    "A folder with one video, and beside it one that is nobody's business."
    (tmp_path / "own").mkdir()
    (tmp_path / "own/a day.mp4").write_bytes(clip)
    (tmp_path / "private.mp4").write_bytes(clip)
    return tmp_path / "own"


def write_csv(path, rows, *, encoding="utf-8", delimiter=","):
    "A table with a column for each key of any row."
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(k for row in rows for k in row)), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path, rows): pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=pyarrow.schema(
    [(k, pyarrow.string()) for k in dict.fromkeys(k for row in rows for k in row)])), path)


WRITERS = {
    "t.csv": write_csv,
    "excel.CSV": lambda path, rows: write_csv(path, rows, encoding="utf-8-sig", delimiter=";"),
    "t.tsv": lambda path, rows: write_csv(path, rows, delimiter="\t"),
    "t.json": lambda path, rows: path.write_text(json.dumps(rows), encoding="utf-8"),
    "bom.json": lambda path, rows: path.write_text(json.dumps(rows), encoding="utf-8-sig"),
    "t.jsonl": lambda path, rows: path.write_text("\n\n".join(map(json.dumps, rows)), encoding="utf-8"),
    "t.parquet": write_parquet,
}


def source(table, **changes): return TableSource(load_config({"ingest": {"source": "table", "table": str(table)} | changes}).ingest)


def read(folder, rows, name="t.csv"):
    "What a table of these rows gives: records by id, and (id, reason) of what is left out."
    WRITERS[name](folder / name, rows)
    records, skipped = source(folder / name).records()
    for record in records: assert validate_record(record) == record
    return {r["video_id"]: r for r in records}, [(s["video_id"], s["reason"]) for s in skipped]


# ---- what tables say

@pytest.mark.parametrize("name", WRITERS)
def test_every_format_says_the_same(folder, name):
    records, skipped = read(folder, ROWS, name)
    day, rain = records.values()
    assert skipped == []
    assert (day["video_id"], day["file"], day["title"], day["duration"]) == ("a_day", "a_day.mp4", "Día, «one»", pytest.approx(1, abs=0.1))
    assert (rain["file"], rain["duration"], rain["source"]) == (f"{rain['video_id']}.mp4", None, "table")
    assert [(r["licence"], r["attribution"], r["artist"], r["link"]) for r in (day, rain)] == [
        ("CC BY 4.0", "Ann / example.org", "Ann", None), ("CC0", None, "Bob", "https://example.org/rain.mp4")]


def test_parquet_needs_its_extra(folder, monkeypatch):
    write_parquet(folder / "t.parquet", ROWS)
    for name in ("pyarrow", "pyarrow.parquet"): monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(IngestError, match=r"pip install 'avmatch\[parquet\]'"): source(folder / "t.parquet").records()


def test_parquet_reads_only_the_columns_it_knows(folder):
    "A column of bytes, as data sets have it, is left alone; dates and whole numbers are understood."
    schema = {"file": pyarrow.string(), "bytes": pyarrow.binary(), "views": pyarrow.int64(), "published_at": pyarrow.timestamp("s", tz="UTC")}
    rows = [{"file": "a day.mp4", "bytes": b"x" * 1000, "views": 12, "published_at": 1_700_000_000}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=pyarrow.schema(schema)), folder / "t.parquet")
    (record,), skipped = source(folder / "t.parquet").records()
    assert (record["views"], record["published_at"], skipped) == (12, "2023-11-14T22:13:20+00:00", [])


@pytest.mark.parametrize(("name", "content", "said"), [
    ("t.csv", "file,title\nx.mp4,Café\n".encode("latin-1"), "save it in that encoding"),
    ("t.csv", "file,title\nx.mp4,Caf\n".encode("utf-16"), "save it in that encoding"),
    ("t.csv", b"", "it is empty"),
    ("t.csv", b"x" * 200_000, "field larger than field limit"),
    ("t.json", b"[" * 100_000, "recursion"),
    ("t.json", b'[{"file": ', "cannot be read"),
    ("t.json", b'{"file": "a day.mp4"}', "expected a list"),
    ("t.parquet", b"PAR1 no more than that", "cannot be read"),
    ("t.txt", b"https://example.org/\xff\n", "save it in that encoding"),
    ("t.xlsx", b"PK", "should end in one of"),
])
def test_a_table_that_cannot_be_read_is_one_clear_error(folder, name, content, said):
    (folder / name).write_bytes(content)
    with pytest.raises(IngestError, match=said) as caught: source(folder / name).records()
    assert str(folder / name) in str(caught.value)


def test_no_table(folder):
    with pytest.raises(IngestError, match="cannot be read: .*No such file"): source(folder / "none.csv").records()
    with pytest.raises(IngestError, match="give -p ingest.table=FILE"): source("").records()


# ---- rows that make no sense

@pytest.mark.parametrize(("row", "reason"), [
    ({"file": "../private.mp4"}, "bad_row"),
    ({"file": "own/../../private.mp4"}, "bad_row"),
    ({"file": "/etc/passwd"}, "bad_row"),
    ({"file": "~/.ssh/id_rsa.mp4"}, "missing"),
    ({"file": "nul\0byte.mp4"}, "bad_row"),
    ({"file": "x" * 300 + ".mp4"}, "missing"),
    ({"file": "lost.mp4"}, "missing"),
    ({"file": "folder.mp4"}, "missing"),
    ({"file": "notes.txt"}, "not_media"),
    ({"file": "text.mp4"}, "not_media"),
    ({"link": "file:///etc/passwd"}, "bad_row"),
    ({"link": "data:video/mp4;base64,AAAA"}, "bad_row"),
    ({"link": "ftp://example.org/x.mp4"}, "bad_row"),
    ({"link": "javascript:alert(1)"}, "bad_row"),
    ({"link": "http://[::1"}, "bad_row"),
    ({"link": "https://ann:secret@example.org/x.mp4"}, "bad_row"),
    ({"file": "a day.mp4", "views": "many"}, "bad_row"),
    ({"file": "a day.mp4", "views": "-3"}, "bad_row"),
    ({"file": "a day.mp4", "views": "inf"}, "bad_row"),
    ({"file": "a day.mp4", "title": "x" * 100_000}, "bad_row"),
    ({"title": "names nothing"}, "bad_row"),
])
def test_a_bad_row_costs_that_row(folder, row, reason):
    (folder / "folder.mp4").mkdir()
    (folder / "text.mp4").write_text("not a video")
    (folder / "notes.txt").write_text("notes")
    for name in ("t.json", "t.csv"):
        if name == "t.csv" and "\0" in str(row): continue
        records, skipped = read(folder, [row, {"file": "a day.mp4"}], name)
        assert (list(records), [r for _, r in skipped]) == (["a_day"], [reason])
    assert "secret" not in json.dumps(source(folder / "t.json").records()[1])


@pytest.mark.parametrize("row", ["a day.mp4", 7, None, [], {"file": ["a day.mp4"]}, {"file": {"path": "a day.mp4"}}, {"file": True}])
def test_json_that_is_no_row(folder, row):
    records, skipped = read(folder, [row, {"file": "a day.mp4"}], "t.json")
    assert list(records) == ["a_day"] and len(skipped) == 1 and skipped[0][1] in ("bad_row", "not_media")


def test_csv_rows_that_do_not_fit(folder):
    "More cells than columns; a cell longer than any; fewer cells than columns, which is fine."
    (folder / "t.csv").write_text(f"file,title,licence\na.mp4,One, two,CC0\nb.mp4,{'x' * 200_000},CC0\na day.mp4\n")
    records, skipped = source(folder / "t.csv").records()
    assert [r["video_id"] for r in records] == ["a_day"]
    assert [(s["video_id"], s["reason"]) for s in skipped] == [("row_1", "bad_row"), ("row_2", "bad_row")]
    assert "line 2: more cells than columns" in skipped[0]["detail"] and "field larger than field limit" in skipped[1]["detail"]


def test_a_quote_that_is_never_closed(folder):
    (folder / "t.csv").write_text('file,title\na day.mp4,One\nb.mp4,"Two\n' + "c.mp4,Three\n" * 20_000)
    records, skipped = source(folder / "t.csv").records()
    assert [r["video_id"] for r in records] == ["a_day"]
    assert {s["reason"] for s in skipped} <= {"bad_row", "missing", "duplicate_id"} and skipped


def test_missing_columns(folder):
    records, skipped = read(folder, [{"titel": "A day", "mood": "calm"}] * 2)
    assert records == {} and skipped == [("row_1", "bad_row"), ("row_2", "bad_row")]


def test_symbolic_links(folder):
    "A link may lead to a file below the table, as git-annex makes them, and nowhere else."
    (folder / ".store").mkdir()
    (folder / "a day.mp4").rename(folder / ".store/1234")
    (folder / "a day.mp4").symlink_to(".store/1234")
    (folder / "out.mp4").symlink_to(folder.parent / "private.mp4")
    (folder / "away").symlink_to(folder.parent)
    (folder / "round.mp4").symlink_to("round.mp4")
    records, skipped = read(folder, [{"file": n} for n in ("a day.mp4", "out.mp4", "away/private.mp4", "round.mp4")])
    assert list(records) == ["a_day"]
    assert [reason for _, reason in skipped][:2] == ["bad_row"] * 2 and skipped[2][1] in ("bad_row", "missing")


def test_the_same_id_twice(folder):
    "The first row keeps it; the others are named by their numbers, so that nothing is filed under another clip's id."
    rows = [{"file": "a day.mp4"}, {"file": "./a day.mp4"}, {"id": "a_day", "link": "https://example.org/1.mp4"},
            {"id": "a day", "link": "https://example.org/2.mp4"}, {"link": "https://example.org/2.mp4"}]
    records, skipped = read(folder, rows)
    assert [r["link"] for r in records.values()] == [None, "https://example.org/2.mp4"]
    assert skipped == [("row_2", "duplicate_id"), ("row_3", "duplicate_id"), ("row_4", "duplicate_id")]


@pytest.mark.parametrize("name", ["夏の海.mp4", "a (1) & b.mp4", "caf\u00e9.mp4", "cafe\u0301.mp4", "..dots.mp4", "-dash.mp4", "x" * 200 + ".mp4",
                                  "new\nline.mp4"])
def test_names_of_all_kinds(folder, clip, name):
    (folder / name).write_bytes(clip)
    records, skipped = read(folder, [{"file": name}], "t.json")
    (record,) = records.values()
    assert skipped == [] and record["video_id"] == safe_id(record["video_id"]) and "/" not in record["file"]


# ---- folders

def test_folders_in_folders(folder, clip):
    for name in ("summer/a day.mp4", "winter/a day.mp4", "winter/deep/er/x.MOV", ".hidden/x.mp4", "winter/.trash.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(clip)
    (folder / "round").symlink_to(folder)
    (folder / "metadata.csv").write_text("file,licence\nwinter/a day.mp4,CC0\nsummer/a day,CC BY\n")
    videos = FolderSource(load_config({"ingest": {"source": "folder", "videos": str(folder)}}).ingest)
    records, skipped = videos.records()
    assert skipped == []
    assert {r["video_id"]: r["licence"] for r in records} == {
        "a_day": None, stable_id("summer/a day.mp4"): "CC BY", stable_id("winter/a day.mp4"): "CC0", stable_id("winter/deep/er/x.MOV"): None}
    for record in records: videos.fetch(record, folder.parent / "placed" / record["file"])
    assert len(list((folder.parent / "placed").iterdir())) == 4


def test_the_same_name_on_a_mac_and_elsewhere(folder, clip):
    (folder / "cafe\u0301.mp4").write_bytes(clip)   # as a Mac writes it
    (folder / "metadata.csv").write_text("file,licence\ncaf\u00e9.mp4,CC0\n", encoding="utf-8")
    records, skipped = FolderSource(load_config({"ingest": {"videos": str(folder)}}).ingest).records()
    assert [(r["video_id"], r["licence"]) for r in records] == [("a_day", None), ("caf\u00e9", "CC0")] and skipped == []


def test_listing_reads_headers_only(folder, clip):
    "A file whose header is whole is listed, though not one picture in it can be decoded."
    start = clip.index(b"mdat") + 4
    (folder / "hollow.mp4").write_bytes(clip[:start] + bytes(len(clip) - start))
    with pytest.raises(MediaError): list(read_frames(folder / "hollow.mp4"))
    records, skipped = FolderSource(load_config({"ingest": {"videos": str(folder)}}).ingest).records()
    assert [r["video_id"] for r in records] == ["a_day", "hollow"] and skipped == []
    assert records[0]["duration"] == records[1]["duration"]


# ---- links

def test_links_are_downloaded(folder, clip, monkeypatch):
    "The real yt-dlp, from a server on this machine; a length that nobody knew is known afterwards."
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with media_server() as site:
        site.faults["gone"] = "not found"
        (folder / "t.txt").write_text("\n".join(site.link(i) for i in ("one", "two", "gone")))
        links = source(folder / "t.txt", retries=0, fragment_retries=0, socket_timeout=5)
        records, skipped = links.records()
        assert skipped == [] and len({r["video_id"] for r in records}) == 3
        for record in records[:2]:
            links.fetch(record, folder / "videos" / record["file"])
            assert (folder / "videos" / record["file"]).read_bytes() == site.clip and record["duration"] == pytest.approx(1, abs=0.1)
        with pytest.raises(MediaError) as caught: links.fetch(records[2], folder / "videos" / records[2]["file"])
        assert caught.value.reason == "deleted"
    links.fetch(records[0], folder / "videos" / records[0]["file"])   # there already: nobody is asked


def test_ids_of_links_are_stable():
    links = [f"https://example.org/{name}" for name in ("a/clip.mp4", "b/clip.mp4", "clip.mp4?v=1", "clip.mp4?v=2", "watch?v=abc", "watch?v=abd", "")]
    assert len({stable_id(link) for link in links}) == len(links)
    assert [stable_id(link) for link in links] == [stable_id(link) for link in links]
    assert stable_id("https://example.org/a/clip.mp4") == "clip-" + stable_id("https://example.org/a/clip.mp4").split("-")[1]


# ---- anything at all

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
NAMES = st.sampled_from([*FIELD_TYPES, "url", "License URL", "author", "id"]) | st.text()


@given(st.dictionaries(NAMES, VALUES))
def test_a_row_is_understood_or_refused(row):
    try: found = read_row(row)
    except MediaError as e: assert e.reason in FAILURES
    else: assert set(found) <= set(FIELD_TYPES) and all(isinstance(v, FIELD_TYPES[k]) for k, v in found.items())


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([".csv", ".tsv", ".json", ".jsonl", ".txt", ".parquet"]), st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_bytes_are_a_table_or_an_error(tmp_path, suffix, content):
    (tmp_path / f"t{suffix}").write_bytes(content)
    try: rows = list(read_table(tmp_path / f"t{suffix}"))
    except IngestError: return
    assert all(isinstance(row, dict | MediaError) for row in rows)


@given(st.text(min_size=1))
def test_any_name_gives_a_safe_id(name):
    assert safe_id(stable_id(name)) == stable_id(name) and stable_id(name)


def test_a_long_table_is_read_row_by_row(tmp_path):
    "The first row is there before the last one is looked at."
    with (tmp_path / "t.csv").open("w") as file:
        file.write("link\n")
        for i in range(100_000): file.write(f"https://example.org/{i}.mp4\n")
    rows = read_table(tmp_path / "t.csv")
    assert next(rows) == {"link": "https://example.org/0.mp4"}
    assert sum(1 for _ in rows) == 99_999


def test_a_video_without_a_length_in_its_header(folder):
    write_video(folder / "plain.mp4", [np.zeros((32, 32, 3), np.uint8)] * 20, frame_rate=10)
    records, _ = read(folder, [{"file": "plain.mp4", "duration": "99"}])
    assert records["plain"]["duration"] == pytest.approx(2, abs=0.11)   # the file knows better than the table


def test_the_terms_reach_the_answers(folder):
    "From a row of the table to what is said of a sound: licence, whom to credit, and where it comes from."
    rows = [ROWS[0] | {"url": "https://example.org/day"}]
    write_csv(folder / "t.csv", rows)
    config, workspace = load_config({"ingest": {"source": "table", "table": str(folder / "t.csv")}}), Workspace(folder.parent / "data")
    run_ingest(config, workspace)
    run_process(config, workspace)
    (sound,) = list_soundtracks(load_manifest(workspace)).values()
    assert (sound.licence, sound.artist, sound.attribution, sound.link) == ("CC BY 4.0", "Ann", "Ann / example.org", "https://example.org/day")
    assert sound.credit == "Ann / example.org"
