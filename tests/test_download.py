"""Downloads by the real yt-dlp, in the real child process, from a server on this machine that fails in every way."""
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock
from media_server import media_server

import avmatch.download
from avmatch.config import ConfigError, MediaError, load_config
from avmatch.download import classify, download, remove_rests
from avmatch.failures import FAILURES
from avmatch.media import probe
from avmatch.ydl_options import download_options, js_runtime


@pytest.fixture
def site(monkeypatch):
    "A running server of videos."
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with media_server() as server: yield server


def settings(**changes):
    "The settings of downloads, without waiting for what will not come."
    return load_config({"ingest": {"retries": 1, "fragment_retries": 1, "socket_timeout": 5} | changes}).ingest


def files(folder): return sorted(p.name for p in folder.rglob("*"))


def fails(site, tmp_path, fault, **changes):
    "The failure of a download with a fault; nothing is left of it."
    site.faults["abc123"] = fault
    with pytest.raises(MediaError) as caught: download(site.link("abc123"), tmp_path / "videos/abc123.mp4", settings(**changes))
    assert files(tmp_path / "videos") == []
    assert "\n" not in str(caught.value) and site.link("abc123") in str(caught.value)
    return caught.value


@pytest.mark.parametrize("fault", ["", "stumbling", "player"])
def test_a_video_comes_whole_and_alone(site, tmp_path, fault):
    site.faults["abc123"] = fault
    download(site.link("abc123"), tmp_path / "videos/abc123.mp4", settings())
    assert (tmp_path / "videos/abc123.mp4").read_bytes() == site.clip
    assert files(tmp_path / "videos") == ["abc123.mp4"]


@pytest.mark.parametrize(("fault", "reason"), [
    ("throttled", "rate_limited"), ("rate limited", "rate_limited"), ("bot check", "bot_check"), ("forbidden", "private"), ("not found", "deleted"),
    ("gone", "deleted"), ("disappearing", "deleted"), ("geo blocked", "geo_blocked"), ("server error", "network"), ("truncated", "network"),
    ("silent film", "no_audio"), ("page", "no_format"), ("page named video", "not_media"), ("long", "too_long"), ("live", "live"),
])
def test_every_fault_has_a_class_and_leaves_nothing(site, tmp_path, fault, reason):
    assert fails(site, tmp_path, fault).reason == reason


def test_a_fault_that_passes_is_overcome_by_trying_again(site, tmp_path):
    assert fails(site, tmp_path, "server error once").reason == "network"
    download(site.link("abc123"), tmp_path / "videos/abc123.mp4", settings())
    assert probe(tmp_path / "videos/abc123.mp4").has_audio


def test_what_hangs_ends_with_the_socket_timeout(site, tmp_path):
    assert fails(site, tmp_path, "hanging", socket_timeout=0.5, retries=0).reason == "network"


@pytest.mark.parametrize("fault", ["hanging", "slow"])
def test_what_takes_too_long_ends_with_the_time_of_the_item(site, tmp_path, fault):
    assert fails(site, tmp_path, fault, timeout=2, socket_timeout=60).reason == "timed_out"


def test_nobody_there(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(MediaError) as caught: download("http://127.0.0.1:9/videos/a.mp4", tmp_path / "a.mp4", settings())
    assert caught.value.reason == "network"


def test_larger_than_asked_for(site, tmp_path):
    error = fails(site, tmp_path, "", ydl_opts='{"max_filesize": 1000}')
    assert error.reason == "too_large" and "max-filesize" in str(error)


# --- ffmpeg -----------------------------------------------------------------------------------------------------------

def stand_in(folder, then):
    "A program called ffmpeg that tells its version, and else does something."
    folder.mkdir()
    (folder / "ffmpeg").write_text(f'#!/bin/sh\ncase "$*" in *-bsfs*) echo "ffmpeg version 7.1"; exit 0;; esac\nfor last; do :; done\n{then}\n')
    (folder / "ffmpeg").chmod(0o755)
    return folder


@pytest.fixture
def path_with(monkeypatch):
    "Put a folder in front of the search path; None: leave no ffmpeg on it."
    def change(folder):
        rest = [p for p in os.environ["PATH"].split(os.pathsep) if folder or not (Path(p) / "ffmpeg").exists()]
        monkeypatch.setenv("PATH", os.pathsep.join([str(folder)] * bool(folder) + rest))
    return change


def test_picture_and_sound_are_merged_by_ffmpeg(site, tmp_path, path_with):
    (tmp_path / "whole.mp4").write_bytes(site.clip)
    path_with(stand_in(tmp_path / "bin", f'cp "{tmp_path}/whole.mp4" "${{last#file:}}"'))
    site.faults["abc123"] = "in two"
    download(site.link("abc123"), tmp_path / "videos/abc123.mp4", settings())
    assert files(tmp_path / "videos") == ["abc123.mp4"]


def test_without_ffmpeg_a_video_in_two_has_no_format(site, tmp_path, path_with):
    path_with(None)
    error = fails(site, tmp_path, "in two")
    assert error.reason == "no_format" and "no ffmpeg to merge" in str(error)


def test_a_merge_that_hangs_dies_with_the_time_out(site, tmp_path, path_with):
    path_with(stand_in(tmp_path / "bin", f"echo $$ > {tmp_path}/pid\nexec sleep 600"))
    assert fails(site, tmp_path, "in two", timeout=4).reason == "timed_out"
    assert is_over(int((tmp_path / "pid").read_text()))


def is_over(pid, patience=10.0):
    "Whether a process ends, or is a dead one that nobody has buried yet."
    for _ in range(int(patience / 0.05)):
        try: state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError: return True
        if state == "Z": return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(("version", "name", "options"), [("v99.0.0", "node", {"node": {}}), ("v12.0.0", "", None)])
def test_node_is_asked_for_by_name_if_it_is_new_enough(tmp_path, monkeypatch, version, name, options):
    (tmp_path / "node").write_text(f"#!/bin/sh\necho {version}\n")
    (tmp_path / "node").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert js_runtime().name == name and (name or "node 12.0.0 is too old" in js_runtime().detail)
    assert download_options(settings(), tmp_path).get("js_runtimes") == options


# --- processes that are killed, and two at a time ----------------------------------------------------------------------

@pytest.fixture
def children(monkeypatch):
    "The child processes that were started."
    started, popen = [], subprocess.Popen
    class Watched(popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            started.append(self.pid)
    monkeypatch.setattr(avmatch.download.subprocess, "Popen", Watched)
    return started


def wait_for(condition, patience=20.0):
    for _ in range(int(patience / 0.02)):
        if condition(): return
        time.sleep(0.02)
    raise AssertionError("it did not come to pass")


def test_a_child_that_is_killed_costs_one_video(site, tmp_path, children):
    def kill():
        wait_for(lambda: site.asked["abc123"] == 2)
        os.kill(children[0], signal.SIGKILL)
    killer = threading.Thread(target=kill)
    killer.start()
    error = fails(site, tmp_path, "hanging", socket_timeout=60)
    killer.join()
    assert error.reason == "unknown" and "ended with -9" in str(error)


PROGRAM = """
import sys
from avmatch.config import load_config
from avmatch.download import download
download(sys.argv[1], sys.argv[2], load_config({"ingest": {"socket_timeout": 60, "retries": 0}}).ingest)
"""


def start(link, path):
    "A whole program that downloads."
    return subprocess.Popen([sys.executable, "-c", PROGRAM, link, str(path)], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})


def test_after_kill_9_the_child_ends_and_its_rest_is_removed_by_the_next(site, tmp_path):
    site.faults["abc123"] = "hanging"
    program = start(site.link("abc123"), tmp_path / "abc123.mp4")
    wait_for(lambda: site.asked["abc123"] == 2)
    child = int(Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()[0])
    program.kill()
    program.wait()
    assert is_over(child)
    assert [p.suffix for p in tmp_path.iterdir()] == [".download"]
    assert remove_rests(tmp_path) == 1 and files(tmp_path) == []


def test_two_processes_fetch_the_same_video(site, tmp_path):
    programs = [start(site.link("abc123"), tmp_path / "abc123.mp4") for _ in range(2)]
    assert [program.wait() for program in programs] == [0, 0]
    assert (tmp_path / "abc123.mp4").read_bytes() == site.clip
    assert files(tmp_path) == ["abc123.mp4"]


def test_rests_of_the_living_are_left_alone(tmp_path):
    for name in ("living", "dead"):
        (tmp_path / f".{name}.x.download").mkdir()
        (tmp_path / f".{name}.x.download/lock").touch()
    with FileLock(tmp_path / ".living.x.download/lock"):
        assert remove_rests(tmp_path) == 1
        assert [p.name for p in tmp_path.iterdir()] == [".living.x.download"]


def test_disk_full(site, tmp_path, monkeypatch):
    class Poor(subprocess.Popen):   # a process that may not write files as long as the clip
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)))
    monkeypatch.setattr(avmatch.download.subprocess, "Popen", Poor)
    assert fails(site, tmp_path, "").reason == "disk_full"


def test_a_full_disk_in_our_own_process(site, tmp_path, monkeypatch):
    def full(*args, **kwargs): raise OSError(28, "No space left on device")
    monkeypatch.setattr(avmatch.download.tempfile, "mkdtemp", full)
    assert fails(site, tmp_path, "").reason == "disk_full"


# --- secrets -----------------------------------------------------------------------------------------------------------

SECRETS = ("s3cretSID", "hunter22", "AIzaTestKeyThatMustNotBeSeen", "Bearer t0ken", "SIGNATURE")


@pytest.fixture
def options(tmp_path, monkeypatch):
    "Options full of secrets."
    monkeypatch.setenv("YOUTUBE_API_KEY", SECRETS[2])
    jar = tmp_path / "jar.txt"
    jar.write_text(f"# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tSID\t{SECRETS[0]}\n")
    return json.dumps({"cookiefile": str(jar), "password": SECRETS[1], "username": "somebody", "http_headers": {"Authorization": SECRETS[3]}})


@pytest.mark.parametrize("fault", ["not found", "truncated", "page named video", "hanging", "long", ""])
def test_secrets_are_in_no_message_and_no_log(site, tmp_path, options, caplog, fault):
    site.faults["abc123"] = fault
    link = f"{site.link('abc123')}?sig={SECRETS[4]}&key={SECRETS[2]}&password={SECRETS[1]}"
    said = ""
    with caplog.at_level(logging.DEBUG):
        try: download(link, tmp_path / "videos/abc123.mp4", settings(ydl_opts=options, timeout=3))
        except MediaError as e: said = str(e)
    assert bool(said) == bool(fault)
    assert not [secret for secret in (*SECRETS, "jar.txt") if secret in said + caplog.text]


def test_secrets_are_not_on_the_command_line(site, tmp_path, options, monkeypatch):
    commands, popen = [], subprocess.Popen
    monkeypatch.setattr(avmatch.download.subprocess, "Popen", lambda command, **more: commands.append(command) or popen(command, **more))
    download(site.link("abc123"), tmp_path / "abc123.mp4", settings(ydl_opts=options))
    assert commands and not any(secret in str(commands) for secret in SECRETS)


def test_the_users_options_reach_the_site(site, tmp_path, options, monkeypatch):
    seen, answers = [], site.answers
    monkeypatch.setattr(site, "answers", lambda handler, with_body=True: seen.append(dict(handler.headers)) or answers(handler, with_body))
    download(site.link("abc123"), tmp_path / "abc123.mp4", settings(ydl_opts=options))
    assert all(SECRETS[0] in headers["Cookie"] and headers["Authorization"] == SECRETS[3] for headers in seen)


def test_cookies_that_cannot_be_read_are_a_matter_of_the_settings(site, tmp_path):
    (tmp_path / "jar.txt").write_text("these\tare\tno cookies\n")
    for options in ({"cookiefile": str(tmp_path / "jar.txt")}, {"cookiesfrombrowser": ["netscape"]}):
        with pytest.raises(ConfigError, match="ingest.ydl_opts"):
            download(site.link("abc123"), tmp_path / "videos/a.mp4", settings(ydl_opts=json.dumps(options)))
    assert not site.asked and not files(tmp_path / "videos")


# --- what yt-dlp says, and what it means -------------------------------------------------------------------------------

SAID = [   # messages from yt-dlp's source and from reports of its users
    ("rate_limited", "[youtube] SOWBtuuCDig: Video unavailable. This content isn't available, try again later. Your account has been rate-limited "
                     "by YouTube for up to an hour. It is recommended to use `-t sleep` to add a delay between video requests"),
    ("rate_limited", "[youtube] y5W-c0UwcpQ: This content isn't available, try again later. The current session has been rate-limited by YouTube"),
    ("rate_limited", "Unable to download webpage: HTTP Error 429: Too Many Requests (caused by <HTTPError 429: 'Too Many Requests'>)"),
    ("bot_check", "[youtube] tpUr8xVxj-w: Sign in to confirm you’re not a bot. Use --cookies-from-browser or --cookies for the authentication. "
                  "See  https://github.com/yt-dlp/yt-dlp/wiki/FAQ#how-do-i-pass-cookies-to-yt-dlp  for how to manually pass cookies"),
    ("bot_check", "[youtube] x: Video unavailable. YouTube is requiring a captcha challenge before playback"),
    ("age_restricted", "[youtube] fVs0suPHAX8: Sign in to confirm your age. This video may be inappropriate for some users."),
    ("private", "[youtube] x: Private video. Sign in if you've been granted access to this video"),
    ("private", "[youtube] x: Video unavailable. This video is private"),
    ("private", "[youtube] h7aSM88pUv8: Join this channel to get access to members-only content like this video, and other exclusive perks."),
    ("private", "[vimeo] x: This video is only available for registered users. Use --cookies for the authentication"),
    ("private", "[youtube] x: This video requires payment to watch"),
    ("private", "[generic] x: Unable to download webpage: HTTP Error 403: Forbidden (caused by <HTTPError 403: Forbidden>)"),
    ("geo_blocked", "[youtube] x: The uploader has not made this video available in your country"),
    ("geo_blocked", "[x] x: This video is not available from your location due to geo restriction"),
    ("live", "[youtube] x: This live event will begin in 3 hours."),
    ("live", "[youtube] x: Premieres in 41 minutes"),
    ("live", "[twitch] x: The channel is not currently live"),
    ("disk_full", "unable to write data: [Errno 28] No space left on device"),
    ("disk_full", "Unable to create directory: [Errno 122] Disk quota exceeded"),
    ("no_format", "[youtube] 9KH5k5UfZXU: Requested format is not available. Use --list-formats for a list of available formats"),
    ("no_format", "[youtube] x: No video formats found!"),
    ("no_format", "[x] x: This video is DRM protected"),
    ("no_format", "You have requested merging of multiple formats but ffmpeg is not installed. Aborting due to --abort-on-error"),
    ("network", "unable to download video data: HTTP Error 403: Forbidden"),
    ("network", "[download] Got error: 245760 bytes read, 9831693 more expected. Giving up after 10 retries"),
    ("network", "Did not get any data blocks"),
    ("network", "The downloaded file is empty"),
    ("network", "[download] Got error: HTTPConnectionPool(host='127.0.0.1', port=3): Read timed out.. Giving up after 1 retries"),
    ("network", "[youtube] x: Unable to download API page: Failed to resolve 'www.youtube.com' ([Errno -3] Temporary failure in name resolution)"),
    ("network", "fragment 1 not found, unable to continue"),
    ("network", "content too short (expected 100 bytes and served 50)"),
    ("deleted", "[youtube] x: Video unavailable. This video is no longer available because the YouTube account associated with this video has been "
                "terminated."),
    ("deleted", "[youtube] x: Video unavailable. This video has been removed by the uploader"),
    ("deleted", "[youtube] x: This video has been removed for violating YouTube's Terms of Service"),
    ("deleted", "[youtube] XyHm0BmtLHg: Video unavailable"),
    ("deleted", "[youtube] qaImFO_DgAM: Video unavailable. This content isn’t available."),
    ("unknown", "[youtube] x: Unable to extract uploader id; please report this issue"),
]


@pytest.mark.parametrize(("reason", "said"), SAID, ids=[said[:50] for _, said in SAID])
def test_real_messages(reason, said):
    assert classify(f"ERROR: {said}") == reason


@pytest.mark.parametrize(("kind", "reason"), [
    ("DownloadError GeoRestrictedError", "geo_blocked"), ("DownloadError UnsupportedError", "no_format"), ("DownloadError UserNotLive", "live"),
    ("DownloadError HTTPError HTTP429", "rate_limited"), ("DownloadError HTTPError HTTP404", "deleted"),
    ("DownloadError HTTPError HTTP451", "geo_blocked"),
    ("UnavailableVideoError OSError ENOSPC", "disk_full"), ("DownloadError OSError EDQUOT", "disk_full"), ("AttributeError", "unknown"),
])
def test_the_names_of_errors_count_more_than_words(kind, reason):
    assert classify("something in any language", kind=kind) == reason


def test_words_in_an_address_do_not_count():
    assert classify("Unable to extract title of https://host/private-video-rate-limited") == "unknown"


def test_every_class_is_a_known_failure():
    assert {reason for reason, _ in SAID} <= set(FAILURES)
