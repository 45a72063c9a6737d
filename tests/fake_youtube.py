"""YouTube's Data API on this machine: searches, uploads, details, quotas and faults.

`FakeYouTube` knows videos and answers questions about them in the shape of the real API. `serve(fake.reply)` puts it on
127.0.0.1; a test that needs media too gives more functions, each of which answers what it knows and returns False else.
"""
import base64
import json
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse
from zoneinfo import ZoneInfo

KEY = "AIzaTestKeyThatMustNotBeSeen"
PREFIX = "/youtube/v3/"
SEARCH_CAP = 500   # results of a search that can be paged through, however many there are


def refusal(status: int, reason: str, message: str) -> tuple[int, bytes]:
    "Status and body of a refusal, as Google's APIs give it."
    error = {"code": status, "message": message, "errors": [{"message": message, "domain": "usageLimits", "reason": reason}]}
    return status, json.dumps({"error": error}).encode()


BAD_KEY = json.dumps({"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.", "status": "INVALID_ARGUMENT",
                                "errors": [{"message": "API key not valid.", "domain": "global", "reason": "badRequest"}],
                                "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]}}).encode()
PER_DAY = "Quota exceeded for quota metric 'Search Queries' and limit 'Search Queries per day' of service 'youtube.googleapis.com'"
PER_MINUTE = "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute' of service 'youtube.googleapis.com'"

# name -> status and body; the other faults (time_out, reset, closed, looping_token) need more than an answer
FAULTS = {
    "quota_429": refusal(429, "rateLimitExceeded", PER_DAY),
    "quota_429_reason": refusal(429, "quotaExceeded", PER_DAY),
    "quota_403": refusal(403, "quotaExceeded", 'The request cannot be completed because you have exceeded your <a href="/v3">quota</a>.'),
    "daily_limit_403": refusal(403, "dailyLimitExceeded", "Daily Limit Exceeded. The quota will be reset at midnight Pacific Time (PT)."),
    "per_minute_429": refusal(429, "rateLimitExceeded", PER_MINUTE),
    "per_minute_403": refusal(403, "userRateLimitExceeded", "Too many requests: user rate limit exceeded."),
    "bad_key": (400, BAD_KEY),
    "bad_key_reason": refusal(400, "keyInvalid", "Bad Request"),
    "api_disabled": refusal(403, "accessNotConfigured", "YouTube Data API v3 has not been used in project 1 before or it is disabled."),
    "bad_request": refusal(400, "invalidParameter", f"Invalid value in a request with key={KEY}"),
    "stale_token": refusal(400, "invalidPageToken", "The request specifies an invalid page token."),
    "no_playlist": refusal(404, "playlistNotFound", "The playlist identified with the request's playlistId parameter cannot be found."),
    "server_500": refusal(500, "backendError", "Backend Error"),
    "server_503": (503, b"<html>\n<h1>Service Unavailable</h1></html>"),
    "not_json": (200, b"<html>Please sign in to this network</html>"),
    "a_list": (200, b"[1, 2]"),
}


def stamp(moment: datetime) -> str:
    "A moment as the API writes it."
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def video(video_id: str, duration: str | None = "PT12S", *, channel: str = "UC1", published: str = "2026-01-02T03:04:05Z",
          live: str = "none", status: dict | None = None, title: str = "", counts: dict | None = None) -> dict:
    "An item of videos.list."
    details = {"dimension": "2d", "definition": "hd"} | ({} if duration is None else {"duration": duration})
    snippet = {"publishedAt": published, "channelId": channel, "channelTitle": f"Channel {channel}", "title": title or f"Title of {video_id}",
               "liveBroadcastContent": live, "categoryId": "10", "tags": ["music", "short"]}
    return {"kind": "youtube#video", "etag": "e", "id": video_id, "snippet": snippet, "contentDetails": details,
            "status": {"uploadStatus": "processed", "privacyStatus": "public", "license": "youtube"} | (status or {}),
            "statistics": {"viewCount": "1000", "likeCount": "50", "favoriteCount": "0", "commentCount": "7"} if counts is None else counts}


@dataclass
class Fault:
    "A fault that happens to a share of the requests."
    name: str
    share: float = 1.0     # of the requests for which it is meant
    where: str = ""        # search, videos, playlistItems or channels; empty: all
    times: int = 1 << 30   # how often at most


@dataclass
class FakeYouTube:
    "What the server knows, and what it was asked."
    searches_a_day: int = 100
    units_a_day: int = 10_000
    clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc)
    quota_fault: str = "quota_429"                          # how it says that the quota is used up
    fuzz: timedelta = timedelta(0)                          # a search by dates may be so far off
    hang: float = 30.0                                      # seconds that a time-out takes
    seed: int = 0                                           # of the lots that decide about faults
    videos: dict[str, dict] = field(default_factory=dict)   # what details know, by id
    index: dict[str, dict] = field(default_factory=dict)    # what a search finds: also what is gone since
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)   # endpoint and parameters of each request
    happened: Counter = field(default_factory=Counter)      # fault -> how often it happened
    spent: Counter = field(default_factory=Counter)         # (bucket, Pacific day) -> what was used of it

    def __post_init__(self):
        self.faults, self.lots, self.lock = [], random.Random(self.seed), threading.Lock()

    def add(self, *items: dict) -> None:
        "Videos appear."
        for item in items: self.videos[item["id"]] = self.index[item["id"]] = item

    def fill(self, n: int, prefix: str = "v", **known) -> list[str]:
        "So many ordinary videos, an hour apart, the newest first; their ids."
        newest = datetime(2026, 1, 31, tzinfo=timezone.utc)
        ids = [f"{prefix}{i:05d}" for i in range(n)]
        self.add(*(video(v, **{"published": stamp(newest - timedelta(hours=i))} | known) for i, v in enumerate(ids)))
        return ids

    def vanish(self, *video_ids: str) -> None:
        "Videos are deleted or made private; searches find them for a while."
        for video_id in video_ids: del self.videos[video_id]

    def inject(self, name: str, **how) -> None:
        "Let a fault happen from now on; see Fault."
        self.faults.append(Fault(name, **how))

    def count(self, endpoint: str) -> int:
        "How many requests an endpoint had."
        return sum(e == endpoint for e, _ in self.asked)

    def pages(self, endpoint: str) -> Counter:
        "How often each page was asked for, by its parameters."
        return Counter(json.dumps(q, sort_keys=True) for e, q in self.asked if e == endpoint)

    # ---- HTTP

    def reply(self, handler: BaseHTTPRequestHandler) -> bool:
        "Answer a request if it is one for the API; False if not."
        url = urlparse(handler.path)
        if not url.path.startswith(PREFIX): return False
        query = {k: v[0] for k, v in parse_qs(url.query).items()}
        with self.lock: status, body = self.answer(url.path.removeprefix(PREFIX), query)
        if status == "reset": drop(handler, reset=True)
        elif status == "closed": drop(handler)
        elif status == "time_out": time.sleep(self.hang)
        else: send(handler, status, body)
        return True

    def answer(self, endpoint: str, query: dict[str, str]) -> tuple[int | str, bytes]:
        "Status and body, or the name of a fault of the network."
        self.asked.append((endpoint, query))
        if query.get("key") != KEY: return FAULTS["bad_key"]
        if not self.charge("search" if endpoint == "search" else "units"): return FAULTS[self.quota_fault]
        name = self.draw(endpoint)
        if name in FAULTS: return FAULTS[name]
        if name in ("reset", "closed", "time_out"): return name, b""
        questions = {"search": self.search, "videos": self.details, "playlistItems": self.uploads, "channels": self.channels}
        answer = questions[endpoint](query) if endpoint in questions else FAULTS["bad_request"]
        if isinstance(answer, tuple): return answer
        if name == "looping_token": answer["nextPageToken"] = query.get("pageToken") or token(0)
        return 200, json.dumps(answer).encode()

    def charge(self, bucket: str) -> bool:
        "Whether there is quota left for a request; every request costs, good or bad."
        day = self.clock().astimezone(ZoneInfo("America/Los_Angeles")).date()
        limit = self.searches_a_day if bucket == "search" else self.units_a_day
        if self.spent[bucket, day] >= limit: return False
        self.spent[bucket, day] += 1
        return True

    def draw(self, endpoint: str) -> str:
        "The fault that happens to this request, or nothing."
        for fault in self.faults:
            if fault.where in ("", endpoint) and fault.times > 0 and self.lots.random() < fault.share:
                fault.times -= 1
                self.happened[fault.name] += 1
                return fault.name
        return ""

    # ---- the endpoints

    def search(self, query: dict[str, str]):
        "search.list: words of the title, dates, less than four minutes; at most 500 of them."
        after, before = query.get("publishedAfter"), query.get("publishedBefore")
        try: after, before = moment(after, -self.fuzz), moment(before, self.fuzz)
        except ValueError: return FAULTS["bad_request"]
        words = query.get("q", "").lower().split()
        found = [i for i, v in self.index.items() if matches(v, words, query)
                 and (not after or moment(v["snippet"]["publishedAt"]) >= after)
                 and (not before or moment(v["snippet"]["publishedAt"]) <= before)]
        items = [{"kind": "youtube#searchResult", "etag": "e", "id": {"kind": "youtube#video", "videoId": i}} for i in found]
        return page("searchListResponse", items, query, cap=SEARCH_CAP)

    def details(self, query: dict[str, str]):
        "videos.list: the asked parts of what is there, for at most 50 ids."
        ids, parts = query.get("id", "").split(","), query["part"].split(",")
        if len(ids) > 50: return refusal(400, "invalidFilters", "The request specifies too many ids.")
        kept = ("kind", "etag", "id", *parts)
        return {"kind": "youtube#videoListResponse", "items": [{k: v for k, v in self.videos[i].items() if k in kept}
                                                              for i in ids if i in self.videos]}

    def channels(self, query: dict[str, str]):
        "channels.list: the playlist of a channel's uploads; a channel that is not there is left out."
        known = {v["snippet"]["channelId"] for v in self.index.values()}
        return {"kind": "youtube#channelListResponse", "items": [
            {"kind": "youtube#channel", "id": c, "contentDetails": {"relatedPlaylists": {"likes": "", "uploads": "UU" + c[2:]}}}
            for c in query.get("id", "").split(",") if c in known]}

    def uploads(self, query: dict[str, str]):
        "playlistItems.list: the uploads of a channel, newest first; no date where the video is gone."
        channel = "UC" + query.get("playlistId", "")[2:]
        found = [v for v in self.index.values() if v["snippet"]["channelId"] == channel]
        if not found: return FAULTS["no_playlist"]
        found.sort(key=lambda v: v["snippet"]["publishedAt"], reverse=True)
        dates = {v["id"]: {"videoPublishedAt": v["snippet"]["publishedAt"]} if v["id"] in self.videos else {} for v in found}
        items = [{"kind": "youtube#playlistItem", "contentDetails": {"videoId": v["id"], **dates[v["id"]]}} for v in found]
        return page("playlistItemListResponse", items, query)


def moment(text: str | None, shift: timedelta = timedelta(0)) -> datetime | None:
    "A moment as the API reads it, moved a little."
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc) + shift if text else None


def matches(item: dict, words: list[str], query: dict[str, str]) -> bool:
    "Whether a search finds this video, dates aside."
    title = item["snippet"]["title"].lower()
    region = item.get("regions")   # only in these, where it is said
    return all(w in title for w in words) and (not region or query.get("regionCode", "US") in region)


def token(start: int) -> str: return base64.urlsafe_b64encode(b"page-%d" % start).decode()


def page(kind: str, items: list[dict], query: dict[str, str], cap: int | None = None):
    "A page of a list, with the token of the next."
    try: start = int(base64.urlsafe_b64decode(query["pageToken"])[5:]) if "pageToken" in query else 0
    except ValueError: return FAULTS["stale_token"]
    end = start + int(query.get("maxResults", 5))
    if end - start > 50: return FAULTS["bad_request"]
    more = {"nextPageToken": token(end)} if end < len(items[:cap]) else {}
    return {"kind": f"youtube#{kind}", "items": items[:cap][start:end], "pageInfo": {"totalResults": 1_000_000}} | more


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, kind: str = "application/json") -> None:
    "A whole answer."
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if handler.command != "HEAD": handler.wfile.write(body)


def drop(handler: BaseHTTPRequestHandler, reset: bool = False) -> None:
    "End the connection without an answer: with a reset, or closed in good order."
    if reset: handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.connection.close()
    handler.wfile = handler.rfile = open("/dev/null", "r+b", 0)   # the connection is gone: what is flushed now goes nowhere


@contextmanager
def serve(*replies: Callable[[BaseHTTPRequestHandler], bool]):
    "A server on 127.0.0.1 whose requests go to the first function that answers them; gives its address."
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            try:
                if not any(reply(self) for reply in replies): send(self, 404, b"{}")
            except (BrokenPipeError, ConnectionResetError): pass   # who asked has gone
        do_HEAD = do_GET
        def log_message(self, *args): pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try: yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
