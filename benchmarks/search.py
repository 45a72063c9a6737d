"""How long a search takes, what it costs to keep, and how much it misses: with 10,000, 100,000 and a million tracks.

    python benchmarks/search.py                   # some minutes, and 6 GB of memory
    options: --sizes 10000,100000,1000000  --dim 256  --queries 400  --evenly  --json

The vectors are generated. A point in 24 dimensions, around one of 2,000 themes whose popularity falls as a power of their rank, goes
through a random network of one hidden layer into --dim dimensions, and gets a little noise. That was fitted to the joint points of
222 real clips' sounds (`benchmarks/retrieval.py`), beside which it is the harder case:

                                     real sounds (222)      generated (100,000)
    cosine of two sounds, 5/50/95 %  -.22 / -.04 / .42      -.32 / .00 / .34
    cosine of the nearest, median     .82                    .82
    dimensions by the spectrum        22                     24        (sum of variances squared, by the sum of their squares)
    dimensions by the neighbours      4.7                    18        (Levina and Bickel, 10 neighbours)

Queries are sounds of the same kind that are not stored, and clips: such a sound, turned away at random until its cosine with the best
match is .57, as it is with the real clips. --evenly adds vectors without any structure, the worst case for every index.

The recipe is the report's loop: the joint model, called once for each track. It is timed with 2,000 tracks, and multiplied: the loop
is the same for each. The bound is the time of a bare product of a matrix and a vector over as many bytes as the search has to read
(NumPy, all cores), and for memory the bytes of the numbers. Times are in milliseconds a query; p50 and p99 are of single queries.
"""
import gc
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import faiss
import numpy as np
import psutil
import table
import torch
import torch.nn.functional as F

from avmatch.joint_model import JointModel
from avmatch.nearest import Exact, Lists, recall_at_10, unit_vectors
from avmatch.vector_index import EXACT, VectorIndex

LATENT, THEMES, RECIPE_TRACKS, BATCH, AWAY = 24, 2_000, 2_000, 64, 0.7
SECONDS = 20   # for one kind of query at most


class World:
    "Where the sounds lie: the same themes for those that are stored and those that ask."
    def __init__(self, dim: int, evenly: bool):
        rng = np.random.default_rng(0)
        self.dim, self.evenly, popularity = dim, evenly, np.arange(1, THEMES + 1) ** -0.8
        self.themes, self.share = rng.standard_normal((THEMES, LATENT)), popularity / popularity.sum()
        self.inner, self.outer = rng.standard_normal((LATENT, 512)) / LATENT ** 0.5, rng.standard_normal((512, dim))

    def sounds(self, n: int, seed: int) -> np.ndarray:
        "Vectors of length 1, shape (n, dim)."
        rng = np.random.default_rng(seed)
        return np.concatenate([self._some(min(50_000, n - i), rng) for i in range(0, n, 50_000)])
    def _some(self, n: int, rng: np.random.Generator) -> np.ndarray:
        noise = unit_vectors(rng.standard_normal((n, self.dim)))
        if self.evenly: return noise
        latent = self.themes[rng.choice(THEMES, n, p=self.share)] + 0.6 * rng.standard_normal((n, LATENT))
        return unit_vectors(unit_vectors(np.tanh(latent @ self.inner) @ self.outer) + 0.25 * noise)
    def clips(self, n: int) -> np.ndarray:
        "Sounds that are turned away from where sounds lie."
        away = unit_vectors(np.random.default_rng(3).standard_normal((n, self.dim)))
        return unit_vectors(AWAY * self.sounds(n, seed=2) + (1 - AWAY ** 2) ** 0.5 * away)


def recipe_seconds() -> float:
    "Seconds a track of the report's search, as it is written."
    model, query = JointModel(512, 40).eval(), torch.randn(1, 512)
    features = {i: torch.randn(40) for i in range(RECIPE_TRACKS)}
    began, results = time.perf_counter(), []
    with torch.no_grad():
        for i, audio in features.items():
            v, a = model(query, audio.unsqueeze(0))
            results.append((i, torch.sum(F.normalize(v, dim=1) * F.normalize(a, dim=1)).item()))
    results.sort(key=lambda pair: pair[1], reverse=True)
    return (time.perf_counter() - began) / RECIPE_TRACKS


def timed(ask: Callable, queries: np.ndarray) -> np.ndarray:
    "Milliseconds of each query alone, after some to warm up; as many as there is time for."
    for query in queries[:3]: ask(query)
    took, end = [], time.perf_counter() + SECONDS
    for query in queries:
        began = time.perf_counter()
        ask(query)
        took.append(1e3 * (time.perf_counter() - began))
        if time.perf_counter() > end: break
    return np.array(took)


def seconds(do: Callable) -> float:
    "How long something takes."
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def product_ms(n_bytes: float, queries: np.ndarray) -> float:
    "Milliseconds of a bare product of a query with a matrix of so many bytes."
    matrix = np.random.default_rng(0).standard_normal((max(1, round(n_bytes / queries[0].nbytes)), queries.shape[1]), dtype=np.float32)
    return float(np.median(timed(lambda query: matrix @ query, queries)))


def resident(folder: str, queries: np.ndarray) -> tuple[float, float]:
    "In a process of its own: the seconds until an index is loaded, and the MB that it then holds, after some queries."
    warm = VectorIndex(queries.shape[1])
    warm.add(["a"], queries[:1])
    warm.search(queries[:1], 1)
    faiss.serialize_index(faiss.IndexFlatIP(1))
    before = psutil.Process().memory_info().rss
    began = time.perf_counter()
    index = VectorIndex.load(Path(folder))
    took = time.perf_counter() - began
    for query in queries: index.search(query, 10)
    gc.collect()
    return took, (psutil.Process().memory_info().rss - before) / 1e6


def alone(job: Callable, *words: object) -> object:
    "What a function gives in a fresh process."
    with multiprocessing.get_context("spawn").Pool(1) as pool: return pool.apply(job, words)


def measure_exact(name: str, vectors: np.ndarray, queries: np.ndarray, recipe: float) -> list[dict]:
    "The exact engine and a bare product, turn by turn."
    engine, ours, bare = Exact(vectors), [], []
    if len(vectors) > EXACT: queries = queries[:60]
    for some in np.array_split(queries, 4):
        bare.append(timed(lambda query: vectors @ query, some))
        ours.append(timed(lambda query: engine.search(query[None], 10), some))
    ours, bare = (float(np.median(np.concatenate(part))) for part in (ours, bare))
    return [table.row(f"{name}, all compared: p50", ours, "ms", recipe=recipe, bound=bare)]


def measure_queries(name: str, index: VectorIndex, queries: np.ndarray, recipe: float) -> list[dict]:
    "Queries alone, in batches, and with filters."
    n, dim, ids = len(index), index.dim, index.ids
    lists = index.engine.faiss if isinstance(index.engine, Lists) else None
    n_bytes = 4 * n * dim if lists is None else dim * (4 * lists.nlist + 2 * n * lists.nprobe / lists.nlist)
    bound, took = product_ms(n_bytes, queries), timed(lambda query: index.search(query, 10), queries)
    batches = queries[:len(queries) // BATCH * BATCH].reshape(-1, BATCH, dim) if len(queries) >= BATCH else queries[None]
    together = timed(lambda batch: index.search(batch, 10), batches) / batches.shape[1]
    rows = [table.row(f"{name}: p50", float(np.median(took)), "ms", recipe=recipe, bound=bound),
            table.row(f"{name}: p99", float(np.quantile(took, 0.99)), "ms", recipe=recipe, bound=bound),
            table.row(f"{name}: p50 in batches of {batches.shape[1]}", float(np.median(together)), "ms", recipe=recipe, bound=bound)]
    for share, step in (("half", 2), ("1 %", 100)):
        took = timed(partial(index.search, k=10, filter=ids[::step]), queries[:50])
        rows.append(table.row(f"{name}: p50 with a filter that leaves {share}", float(np.median(took)), "ms", recipe=recipe / step))
    return rows


def measure_recall(name: str, index: VectorIndex, vectors: np.ndarray, asked: dict[str, np.ndarray]) -> list[dict]:
    "The share of the true ten nearest that is found, for each kind of query."
    rows = []
    for kind, queries in asked.items():
        true = faiss.knn(queries, vectors, 10, metric=faiss.METRIC_INNER_PRODUCT)[1]
        found = index.names.find([i for some in index.search(queries, 10)[0] for i in some]).reshape(len(queries), 10)
        rows.append(table.row(f"{name}: recall at 10, {kind}", recall_at_10(found, true), "share", bound=1.0))
    allowed = np.arange(0, len(vectors), 100)
    if len(allowed) < 10: return rows
    queries = asked["sounds"]
    true = allowed[faiss.knn(queries, vectors[allowed], 10, metric=faiss.METRIC_INNER_PRODUCT)[1]]
    found = index.search(queries, 10, filter=[f"track-{i:07}" for i in allowed])[0]
    found = index.names.find([i for some in found for i in some]).reshape(len(queries), 10)
    return [*rows, table.row(f"{name}: recall at 10 with a filter that leaves 1 %", recall_at_10(found, true), "share", bound=1.0)]


def measure_keeping(name: str, index: VectorIndex, queries: np.ndarray) -> list[dict]:
    "Files, memory, and changes."
    n, number = len(index), 4 if isinstance(index.engine, Exact) else 2
    bare = n * index.dim * number
    with tempfile.TemporaryDirectory() as folder:
        save = seconds(lambda: index.save(Path(folder)))
        size = sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file())
        load, held = alone(resident, folder, queries[:100])
    new = unit_vectors(np.random.default_rng(4).standard_normal((1_000, index.dim)))
    ids = [f"new-{i}" for i in range(len(new))]
    changes = {"add": lambda: index.add(ids, new), "upsert": lambda: index.upsert(ids, new), "remove": lambda: index.remove(ids)}
    return [table.row(f"{name}: memory", held, "MB", bound=bare / 1e6), table.row(f"{name}: file", size / 1e6, "MB", bound=bare / 1e6),
            table.row(f"{name}: memory a track", 1e6 * held / n, "bytes", bound=bare / n),
            table.row(f"{name}: save", save, "s"), table.row(f"{name}: load", load, "s"),
            *(table.row(f"{name}: {change} 1,000", 1e3 * seconds(do), "ms") for change, do in changes.items())]


def measure(n: int, world: World, n_queries: int, exact_up_to: int) -> list[dict]:
    "All figures of one size."
    name = f"{n:,} tracks" + (" spread evenly" if world.evenly else "")
    vectors, asked = world.sounds(n, seed=1), {"sounds": world.sounds(n_queries, seed=2), "clips": world.clips(n_queries)}
    recipe, queries = 1e3 * n * recipe_seconds(), asked["sounds"]
    index = VectorIndex(world.dim, model="benchmark", exact_up_to=exact_up_to)
    build = seconds(lambda: index.add([f"track-{i:07}" for i in range(n)], vectors))
    stats = index.stats()
    label = f"{name}, {stats['engine']}"
    rows = measure_exact(name, vectors, queries, recipe) + [table.row(f"{label}: build", build, "s")]
    if stats["n_lists"]: rows.append(table.row(f"{label}: lists opened", stats["n_probe"], "lists", bound=stats["n_lists"]))
    rows += measure_queries(label, index, queries, recipe) + measure_recall(label, index, vectors, asked)
    return rows + measure_keeping(label, index, queries)


def main() -> None:
    parser = table.parser(__doc__)
    parser.add_argument("--sizes", default="10000,100000,1000000", help="numbers of tracks")
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--exact-up-to", type=int, default=EXACT, help="tracks up to which the index is exact")
    parser.add_argument("--evenly", action="store_true", help="also vectors without any structure")
    args = parser.parse_args()
    rows = [row for evenly in ((False, True) if args.evenly else (False,)) for size in args.sizes.split(",")
            for row in measure(int(size), World(args.dim, evenly), args.queries, args.exact_up_to)]
    table.show(rows, "Search among tracks; the recipe's times are extrapolated from 2,000 tracks", args)


if __name__ == "__main__": main()
