"""A server on this machine that hands out small videos, well or badly, as a platform does.

`/videos/<id>.mp4` is downloaded by yt-dlp's generic extractor, with two requests: one to see what it is, one for
the bytes. How an id is served is set by `server.faults[id] = "truncated"`, or by lot: `server.shares["truncated"] = 0.1`
gives the fault to a tenth of all ids, always the same ones. A fault followed by "once" befalls only the first request.
After `server.patience` requests everybody is rate limited, until the test raises it.

Another server takes the videos along by handing its requests on: `if media.answers(handler): return`.
"""
import hashlib
import re
import tempfile
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlparse

import numpy as np

from avmatch.media import write_video

PATTERN = re.compile(r"/videos/([\w.-]+)\.mp4")
REFUSALS = {   # fault -> status and what stands behind it, which yt-dlp quotes
    "throttled": (429, "Too Many Requests"),
    "rate limited": (403, "This content isn't available, try again later. The current session has been rate-limited by YouTube for up to an hour."),
    "bot check": (403, "Sign in to confirm you're not a bot."),
    "forbidden": (403, "Forbidden"),
    "not found": (404, "Not Found"),
    "gone": (410, "Gone"),
    "geo blocked": (451, "Unavailable For Legal Reasons"),
    "server error": (500, "Internal Server Error"),
}
_PLAYER = """<html><title>A video</title><script type="application/ld+json">{"@context": "https://schema.org", "@type": "VideoObject",
"name": "A video", "contentUrl": "%%s", "duration": "%s"}</script></html>"""
_MANIFEST = """<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="%s" mediaPresentationDuration="PT1S"><Period>
<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="9" codecs="avc1.4d401e"><BaseURL>%%s</BaseURL></Representation></AdaptationSet>
<AdaptationSet mimeType="audio/mp4"><Representation id="2" bandwidth="9" codecs="mp4a.40.2"><BaseURL>%%s</BaseURL></Representation></AdaptationSet>
</Period></MPD>"""
PAGES = {   # fault -> a text where a video was expected; %s stands for the address of a good video
    "page": "<html><title>Sorry</title>You have been rate-limited.<!-- %s --></html>",
    "long": _PLAYER % "PT10H",
    "player": _PLAYER % "PT1S",
    "live": _MANIFEST % "dynamic",
    "in two": _MANIFEST % "static",   # picture and sound apart, to be merged by ffmpeg
}


def make_clip(seconds=1.0, with_sound=True):
    "The bytes of a small video."
    n_frames, sr = round(10 * seconds), 22_050
    sound = 0.1 * np.sin(np.arange(round(sr * seconds)) / 10) if with_sound else None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_video(path, [np.full((64, 48, 3), v % 256, np.uint8) for v in range(n_frames)], sound, frame_rate=10, sr=sr)
        return path.read_bytes()


class MediaServer:
    "What is served, how, and what was asked for."
    url = ""   # set by media_server, or by the server that takes the videos along

    def __init__(self):
        self.faults, self.shares = {}, {}         # id -> fault; fault -> share of the ids
        self.clips = {}                           # id -> bytes of its video, instead of the one that all have
        self.patience = float("inf")              # requests until everybody is rate limited
        self.asked = Counter()                    # id -> requests
        self.stopping = threading.Event()         # ends those who hang
        self.lock = threading.Lock()
        self.clip, self.silent_film = make_clip(), make_clip(with_sound=False)

    def link(self, video_id): return f"{self.url}/videos/{video_id}.mp4"

    def fault(self, video_id):
        "The fault of an id, or an empty string: the set one, or else by lot."
        if video_id in self.faults: return self.faults[video_id]
        lot = int.from_bytes(hashlib.sha256(video_id.encode()).digest()[:4], "big") / 2**32
        for fault, share in self.shares.items():
            if lot < share: return fault
            lot -= share
        return ""

    def answers(self, handler, with_body=True):
        "Answer a request for a video; False if it is none."
        found = PATTERN.fullmatch(urlparse(handler.path).path)
        if not found: return False
        video_id = found[1]
        with self.lock:
            self.asked[video_id] += 1
            visit = self.asked[video_id]
            throttled = self.asked.total() > self.patience
        fault = "throttled" if throttled else self.fault(video_id)
        if fault.endswith(" once"): fault = fault.removesuffix(" once") if visit == 1 else ""
        body = self.body(handler, fault, visit, self.clips.get(video_id, self.clip))
        if body and with_body: handler.wfile.write(body)
        return True

    def body(self, handler, fault, visit, clip):
        "Send the head, and what of the body has to be sent slowly; returns the rest of the body."
        if fault in REFUSALS: return self.head(handler, *REFUSALS[fault])
        if fault == "disappearing" and visit > 1: return self.head(handler, *REFUSALS["not found"])
        if fault == "stumbling" and visit == 2: return self.head(handler, *REFUSALS["server error"])
        if fault in PAGES: return self.head(handler, kind="text/html", body=PAGES[fault].replace("%s", self.link("clip")).encode())
        if fault == "silent film": return self.head(handler, body=self.silent_film)
        if fault == "page named video": return self.head(handler, body=b"<html><title>Sorry</title>Try again later.</html>" * 50)
        body = self.head(handler, body=clip)
        if fault == "truncated": return body[:len(body) // 2]
        if fault in ("hanging", "slow"):
            for i in range(0, len(body), 64):
                handler.wfile.write(body[i:i + 64])
                if self.stopping.wait(3600 if fault == "hanging" else 0.2): break
            return b""
        return body

    def head(self, handler, status=200, reason="OK", kind="video/mp4", body=b""):
        "Send a head that promises the whole body; returns the body."
        handler.send_response(status, reason)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        return body


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self, with_body=True):
        try:
            if not self.server.media.answers(self, with_body): self.send_error(404)
        except ConnectionError: pass   # the client went away
    def do_HEAD(self): self.do_GET(with_body=False)
    def log_message(self, *args): pass


@contextmanager
def media_server():
    "A running server of videos: `with media_server() as server: server.link('abc')`."
    media = MediaServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.media, server.daemon_threads, media.url = media, True, f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try: yield media
    finally:
        media.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()
