"""The doctor on machines on which something is missing: each finding says what to do, and keeps the key to itself."""
import json
import os
import shutil
import sqlite3
import sys
import sysconfig
from collections import namedtuple
from contextlib import closing
from pathlib import Path

import av
import pytest
from fake_youtube import KEY, FakeYouTube, serve

import avmatch.doctor
from avmatch.cli import main
from avmatch.config import load_config
from avmatch.doctor import PROBES, check_codec, check_disk, check_js_runtime, check_key, check_program, check_state, diagnose, finding_line
from avmatch.state import open_state
from avmatch.workspace import Workspace


@pytest.fixture
def workspace(tmp_path): return Workspace(tmp_path / "my data")


def by_name(findings): return {f.name: f for f in findings}


@pytest.mark.parametrize("codec", PROBES)
def test_every_codec_decodes_here(codec):
    assert check_codec(codec).ok, check_codec(codec)


def test_a_decoder_that_is_missing_or_wrong(monkeypatch):
    def no_decoder(*args, **options): raise av.error.DecoderNotFoundError(1, "Decoder not found")
    monkeypatch.setattr(av, "open", no_decoder)
    finding = check_codec("hevc")
    assert (finding.ok, finding.remedy, finding.needed_for) == (False, "pip install --force-reinstall av", "clips in hevc")
    assert "Decoder not found" in finding.detail
    monkeypatch.undo()
    monkeypatch.setattr(avmatch.doctor, "COLOUR", (0, 0, 255))
    monkeypatch.setattr(avmatch.doctor, "TONE", 1000.0)
    assert {check_codec(codec).detail for codec in ("h264", "mp3")} == {"decodes to something else"}


def test_an_empty_machine(workspace, tmp_path, monkeypatch):
    "No programs, no key, no weights: nothing of it is needed for a folder of videos, and each has its remedy."
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setenv("AVMATCH_CACHE", str(tmp_path / "cache"))
    for name in ("YOUTUBE_API_KEY", "CHROMIUM"): monkeypatch.delenv(name, raising=False)
    found = by_name(diagnose(workspace))
    missing = {name: f.needed_for for name, f in found.items() if not f.ok}
    expected = {"weights": "the best audio encoders", "YOUTUBE_API_KEY": "--source youtube", "ffmpeg": "downloads",
                "chromium": "the tests of the page"}
    assert expected.items() <= missing.items() and "everything" not in missing.values()
    assert all(f.remedy for f in found.values() if not f.ok)
    assert not workspace.root.exists(), "looking changes nothing"


@pytest.mark.skipif(Path(sysconfig.get_path("scripts"), "deno").exists(), reason="yt-dlp finds the deno of this environment first")
def test_javascript_runtimes(tmp_path, monkeypatch):
    for folder, version in (("old", "1.0.0"), ("new", "99.0.0"), ("empty", "")):
        (tmp_path / folder).mkdir()
        if version: (tmp_path / folder / "deno").write_text(f"#!/bin/sh\necho deno {version}\n")
        if version: (tmp_path / folder / "deno").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert (check_js_runtime().ok, "install deno" in check_js_runtime().remedy) == (False, True)
    monkeypatch.setenv("PATH", str(tmp_path / "old"))
    assert not check_js_runtime().ok and "deno 1.0.0 is too old" in check_js_runtime().detail
    monkeypatch.setenv("PATH", str(tmp_path / "new"))
    assert (check_js_runtime().ok, check_js_runtime().detail) == (True, "deno 99.0.0")


def test_packages_that_are_missing(workspace, monkeypatch):
    for name in ("av", "yt_dlp", "yt_dlp.version", "yt_dlp_ejs"): monkeypatch.setitem(sys.modules, name, None)
    found = by_name(diagnose(workspace))
    assert not found["av"].ok and found["av"].needed_for == "everything"
    assert not found["yt-dlp"].ok and "pip install --upgrade 'yt-dlp[default]'" in finding_line(found["yt-dlp"])
    assert not found["yt_dlp_ejs"].ok and not found["codec h264"].ok


def test_a_full_disk(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12 - 10**8, 10**8))
    finding = check_disk("workspace", tmp_path)
    assert not finding.ok and finding.detail.startswith("0.1 GB free in ") and finding.remedy.startswith("free some space, 2 GB at least")


@pytest.mark.skipif(not Path("/dev/full").exists() or not Path("/proc").exists(), reason="Linux only")
def test_a_folder_that_cannot_be_written_to():
    finding = check_disk("workspace", Path("/proc/avmatch"))
    assert not finding.ok and finding.detail.startswith("/proc cannot be written to") and "--workspace" in finding.remedy


def test_the_state_of_a_workspace(workspace):
    assert check_state(workspace).ok
    with open_state(workspace) as state: state.add([f"clip{i}" for i in range(2_000)], "ingest")
    assert check_state(workspace).ok and check_state(workspace).detail.endswith("state.db: ok")
    size = workspace.state.stat().st_size
    with workspace.state.open("r+b") as file:   # as a bad disk does it
        file.seek(size // 2)
        file.write(os.urandom(8_192))
    finding = check_state(workspace)
    assert not finding.ok and "move it away" in finding.remedy
    assert workspace.state.stat().st_size == size, "looking changes nothing"


def test_a_state_that_is_in_use(workspace):
    with open_state(workspace) as state, closing(sqlite3.connect(workspace.state, isolation_level=None)) as writer:
        state.add(["clip"], "ingest")
        writer.execute("BEGIN IMMEDIATE")
        assert check_state(workspace).ok


@pytest.mark.parametrize(("fault", "said"), [
    ("", "set and accepted"), ("quota_429", "set and accepted"), ("quota_403", "set and accepted"),
    ("bad_key", "YouTube does not accept the key"), ("api_disabled", "enable it at https://console.cloud.google.com"),
    ("bad_request", "YouTube refused the request"), ("server_500", "try again later"),
])
def test_the_key_is_asked_about_and_never_shown(monkeypatch, fault, said):
    "A quota that is used up is that of a good key."
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("YOUTUBE_API_KEY", KEY)
    youtube = FakeYouTube()
    if fault: youtube.inject(fault)
    with serve(youtube.reply) as address:
        config = load_config({"ingest": {"api_url": address, "socket_timeout": 5}})
        assert check_key(config).detail == "set" and youtube.asked == []
        finding = check_key(config, network=True)
    assert finding.ok == (said == "set and accepted") and said in finding.detail
    assert KEY not in str(finding) and youtube.count("videos") == 1


def test_the_key_is_not_printed(monkeypatch, capsys, workspace):
    monkeypatch.setenv("YOUTUBE_API_KEY", KEY)
    main(["doctor", "--network", "--json", "--workspace", str(workspace.root), "-p", "ingest.api_url=http://127.0.0.1:9"])
    printed = capsys.readouterr()
    assert KEY not in printed.out + printed.err
    finding = next(f for f in json.loads(printed.out) if f["name"] == "YOUTUBE_API_KEY")
    assert not finding["ok"] and "cannot be reached" in finding["detail"]


def test_exit_codes(workspace, monkeypatch, capsys):
    "0 although something is missing that only some need; 1 if everything needs it."
    monkeypatch.delenv("YOUTUBE_API_KEY", raising=False)
    assert main(["doctor", "--workspace", str(workspace.root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("missing  YOUTUBE_API_KEY: not set; set it to a key") for line in lines)
    assert all(line.startswith(("ok       ", "missing  ")) for line in lines)
    workspace.root.mkdir()
    workspace.state.write_bytes(b"not a database" * 100)
    assert main(["doctor", "--workspace", str(workspace.root)]) == 1
    assert capsys.readouterr().err.strip() == "avmatch: not ready: state"


def test_programs_are_looked_for_on_the_path(tmp_path, monkeypatch):
    (tmp_path / "ffmpeg").write_text("")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not check_program(["ffmpeg"], remedy="install it", needed_for="downloads").ok   # it cannot be executed
    (tmp_path / "ffmpeg").chmod(0o755)
    assert check_program(["ffmpeg"], remedy="install it", needed_for="downloads").detail == str(tmp_path / "ffmpeg")
