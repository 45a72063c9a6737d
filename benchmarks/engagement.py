"""What engagement weights bring, where their effect is known: generated clips, of which the careful ones are liked more.

    python benchmarks/engagement.py [--json] [--seeds 5] [--tracks 300] [--clips-per-track 2] [--mismatched 0.3]

No video is made. Each planned clip shows its three attributes (energy, mood, roundness) through made-up eyes, each track through
made-up ears, both bent and with noise of their own. A careless clip shows attributes that are far from its track's, so it is a worse
example; viewers like it less, with chance in it. Views, as on a platform, have nothing to do with care.

Every way of weighting trains the same models on the same clips, with the same seed. All are tested on clips and tracks that they have
not seen: the rank of each clip's track among all test tracks. Differences from equal weights are paired, clip by clip, and their
intervals (95 %) come from a bootstrap over seeds and tracks. `oracle` weighs by the care itself, which nobody knows: no weight can do
better than something like it. `ideal` ranks by the attributes without any error.

`--mismatched SHARE` is a positive control, which the generated clips do not have by themselves: of the training clips, the most
careless SHARE show a picture that belongs to another clip of these, so that they are wrong examples and not only noisy ones.
"""
import argparse
import json
from collections.abc import Callable, Sequence

import numpy as np
import torch

from avmatch.cca import fit_cca
from avmatch.engagement import effective_share, engagement_weights, fit_engagement
from avmatch.joint_model import build_two_tower
from avmatch.pairs import Pairs
from avmatch.process import engagement_score
from avmatch.samples import ATTRIBUTES, Clip, ideal_similarity, plan_samples
from avmatch.training_loop import LoopSettings, embed_pairs, fit_two_tower

DIMS = {"video": 60, "audio": 40}   # numbers that the made-up eyes and ears give
OWN_NOISE = 0.3                     # of each such number, whose spread is about 0.6


def bent(values: np.ndarray, side: str, rng: np.random.Generator) -> np.ndarray:
    "Attributes of shape (n, 3) as features: stirred, bent and noisy, shape (n, dim)."
    world = np.random.default_rng([7, DIMS[side]])   # the same eyes and ears for all seeds
    stir, shift = world.normal(size=(3, DIMS[side])) * 3, world.normal(size=DIMS[side])
    return (np.tanh((values - 0.5) @ stir + shift) + OWN_NOISE * rng.normal(size=(len(values), DIMS[side]))).astype(np.float32)


def make_pairs(clips: Sequence[Clip], seed: int) -> Pairs:
    "What is seen and heard of planned clips."
    rng = np.random.default_rng([seed, 11])
    seen, heard = ([[getattr(x, a) for a in ATTRIBUTES] for x in xs] for xs in (clips, [c.track for c in clips]))
    track = np.unique([c.track.track_id for c in clips], return_inverse=True)[1]
    return Pairs(bent(np.array(seen), "video", rng), bent(np.array(heard), "audio", rng), track)


def mismatch(pairs: Pairs, clips: Sequence[Clip], share: float, seed: int) -> Pairs:
    "The pairs with the pictures of the most careless clips dealt out among them."
    worst = np.argsort([-c.carelessness for c in clips], kind="stable")[:round(share * len(clips))]
    video = pairs.video.copy()
    video[worst] = pairs.video[np.random.default_rng([seed, 13]).permutation(worst)]
    return Pairs(video, pairs.audio, pairs.track)


def report_weights(clips: Sequence[Clip], field: Callable[[dict], float | None]) -> np.ndarray:
    "A score as it is for a weight; unknown ones count as the mean, and the mean is 1."
    scores = np.array([np.nan if (value := field(c.record)) is None else value for c in clips], float)
    return np.nan_to_num(scores, nan=np.nanmean(scores)) / np.nanmean(scores)


def all_weights(clips: Sequence[Clip]) -> dict[str, np.ndarray]:
    "Each way of weighting the training clips."
    records = [c.record for c in clips]
    model = fit_engagement(records)
    ways = {f"tau {tau}": engagement_weights(model, records, tau=float(tau))[0] for tau in (0, 1, 2)}
    ways["report's score"] = report_weights(clips, lambda r: engagement_score(r["views"], r["likes"], r["comments"]))
    ways["raw likes"] = report_weights(clips, lambda r: r["likes"])
    care = np.array([c.carelessness for c in clips]) ** -2.0
    return ways | {"oracle": np.clip(care / np.median(care), 1 / 3, 3)}


def ranks(similarity: np.ndarray, pos: np.ndarray) -> np.ndarray:
    "Place of each clip's track among all, from 1; of ties the middle."
    own = similarity[np.arange(len(pos)), pos][:, None]
    return 1 + (similarity > own).sum(axis=1) + ((similarity == own).sum(axis=1) - 1) / 2


def test_ranks(v: np.ndarray, a: np.ndarray, track: np.ndarray) -> np.ndarray:
    "Ranks of the test clips, each track standing for the mean of its sounds."
    tracks = np.stack([a[track == t].mean(axis=0) for t in range(track.max() + 1)])
    return ranks(v @ (tracks / np.linalg.norm(tracks, axis=1, keepdims=True)).T, track)


def train_cca(train: Pairs, val: Pairs, test: Pairs, seed: int) -> np.ndarray:
    "Ranks by canonical correlations; the shrinkage is chosen on the validation clips."
    fits = [fit_cca(train.video, train.audio, weights=train.weight, shrinkage=s) for s in (0.01, 0.03, 0.1, 0.3)]
    embed = lambda m, p: test_ranks(m.embed_video(p.video), m.embed_audio(p.audio), p.track)
    best = max(fits, key=lambda m: (1 / embed(m, val)).mean())
    return embed(best, test)


def train_mlp(train: Pairs, val: Pairs, test: Pairs, seed: int) -> np.ndarray:
    "Ranks by the MLP rung, trained by the loop."
    settings = LoopSettings(epochs=150, patience=40, lr=2e-3, seed=seed)
    torch.manual_seed(seed)
    result = fit_two_tower(build_two_tower("mlp", DIMS["video"], DIMS["audio"], embed_dim=64, temperature=0.1), train, val, settings)
    return test_ranks(*embed_pairs(result.model, test, settings), test.track)


MODELS = {"cca": train_cca, "mlp": train_mlp}


def one_seed(seed: int, n_tracks: int, clips_per_track: int, mismatched: float) -> tuple[dict, dict, list[dict], np.ndarray]:
    "Ranks of each model and way, ideal ranks, what the weights are like, and the track of each test clip."
    sets = [plan_samples(n, k, seed=1000 * seed + i, bad=False) for i, (n, k) in enumerate(((n_tracks, clips_per_track), (200, 1), (500, 2)))]
    train, val, test = (make_pairs(clips, 10 * seed + i) for i, clips in enumerate(sets))
    train = mismatch(train, sets[0], mismatched, seed)
    care = -np.array([c.carelessness for c in sets[0]])
    about, found = [], {}
    for way, weights in all_weights(sets[0]).items():
        about.append({"way": way, "effective_share": effective_share(weights),
                      "care": 0.0 if np.ptp(weights) == 0 else float(np.corrcoef(*(np.argsort(np.argsort(x)) for x in (care, weights)))[0, 1])})
        weighted = Pairs(train.video, train.audio, train.track, weights)
        for model, fit in MODELS.items(): found[model, way] = fit(weighted, val, test, seed)
    ordered = list({c.track.track_id: c.track for c in sorted(sets[2], key=lambda c: c.track.track_id)}.values())
    return found, {"ideal": ranks(ideal_similarity(sets[2], ordered), test.track)}, about, test.track


def interval(values: np.ndarray, rng: np.random.Generator) -> list[float]:
    "Bootstrap over seeds, and in each over tracks; values of shape (seeds, tracks)."
    means = []
    for _ in range(2000):
        seeds = rng.integers(len(values), size=len(values))
        means.append(np.mean([values[s, rng.integers(values.shape[1], size=values.shape[1])].mean() for s in seeds]))
    return np.quantile(means, [0.025, 0.975]).tolist()


METRICS = {"MRR": lambda r: 1 / r, "R@1": lambda r: r <= 1, "R@10": lambda r: r <= 10}


def by_track(rank: np.ndarray, metric: str, track: np.ndarray) -> np.ndarray:
    "A metric's mean over the clips of each track."
    return np.bincount(track, METRICS[metric](rank).astype(float)) / np.bincount(track)


def summarize(runs: list[tuple]) -> list[dict]:
    "A row for each model and way: metrics, their differences from tau 0, intervals."
    rows, rng = [], np.random.default_rng(0)
    about = {way: [next(a for a in run[2] if a["way"] == way) for run in runs] for way in (a["way"] for a in runs[0][2])}
    for model, way in runs[0][0]:
        row = {"model": model, "way": way} | {k: float(np.mean([a[k] for a in about[way]])) for k in ("effective_share", "care")}
        row["MedR"] = float(np.median(np.concatenate([run[0][model, way] for run in runs])))
        row["ci"], row["difference"], row["difference_ci"] = {}, {}, {}
        for metric in METRICS:
            values, plain = (np.stack([by_track(run[0][model, w], metric, run[3]) for run in runs]) for w in (way, "tau 0"))
            row[metric], row["difference"][metric] = float(values.mean()), float((values - plain).mean())
            row["ci"][metric], row["difference_ci"][metric] = interval(values, rng), interval(values - plain, rng)
        rows.append(row)
    ideal = {metric: float(np.mean([METRICS[metric](run[1]["ideal"]).mean() for run in runs])) for metric in METRICS}
    return [*rows, {"model": "ideal", "way": ""} | ideal]


def main() -> None:
    "Train every model with every way of weighting and print a table."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--seeds", type=int, default=5, help="sets of clips, each with its own training")
    parser.add_argument("--tracks", type=int, default=300, help="training tracks")
    parser.add_argument("--clips-per-track", type=int, default=2)
    parser.add_argument("--mismatched", type=float, default=0.0, help="share of the training clips that are wrong examples")
    args = parser.parse_args()
    rows = summarize([one_seed(seed, args.tracks, args.clips_per_track, args.mismatched) for seed in range(args.seeds)])
    sizes = {"seeds": args.seeds, "train": args.tracks * args.clips_per_track, "mismatched": args.mismatched, "queries": 1000, "gallery": 500}
    if args.json: print(json.dumps(sizes | {"rows": rows}, indent=1))
    else: print_table(rows)


def print_table(rows: list[dict]) -> None:
    "The rows for people."
    print(f"{'model':6}{'weights':16}{'in use':>7}{'care':>6}{'MRR':>8}{'R@10':>8}   MRR less that of tau 0")
    for row in rows:
        if "ci" not in row:
            print(f"{row['model']:35}{row['MRR']:8.4f}{row['R@10']:8.3f}   attributes without error")
            continue
        low, high = row["difference_ci"]["MRR"]
        print(f"{row['model']:6}{row['way']:16}{row['effective_share']:7.0%}{row['care']:6.2f}{row['MRR']:8.4f}{row['R@10']:8.3f}"
              f"   {row['difference']['MRR']:+.4f} [{low:+.4f}, {high:+.4f}]")


if __name__ == "__main__": main()
