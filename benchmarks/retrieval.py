"""How often the right sound is found: avmatch's default beside the report's recipe, on the same clips and the same split.

    python benchmarks/retrieval.py --clips DIR                        # folds of DIR; nothing shared between training and test
    python benchmarks/retrieval.py --clips DIR --test-clips DIR2      # learn from DIR, test on DIR2
    python benchmarks/retrieval.py                                    # generated samples, beside an ideal matcher
    options: --folds 4  --group-by source  --seeds 1  --ablate  --json  --work DIR

DIR is any folder of videos. If it holds clips.csv, its column named by --group-by says which clips must stay together; clips with
the same sound or the same pictures stay together in any case. The truth is each clip's own track among all tracks of its fold.
What is extracted is kept in --work (default: in avmatch's cache), so that a second run only trains.
"""
import argparse
import csv
import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import report_recipe

from avmatch.audio_features import prepare_weights, run_audio_features
from avmatch.config import AvmatchError, load_config, override
from avmatch.fingerprint import fingerprint, group_by_sound
from avmatch.ladder import ClipSet
from avmatch.matcher import best_of_tracks, blend
from avmatch.media import read_wav
from avmatch.metrics import bootstrap_interval, paired_bootstrap, pool_folds, query_figures
from avmatch.process import run_process
from avmatch.runtime import cache_folder
from avmatch.samples import ideal_similarity, plan_samples
from avmatch.sequences import columns_of, skipped_ids
from avmatch.splits import check_overlap, k_folds, load_hashes, near_duplicates
from avmatch.train import fit_clips, join_clips, load_clips
from avmatch.video_features import run_video_features
from avmatch.workspace import Workspace, load_manifest

NAMES = {"MRR": "mrr", "R@1": "recall_at_1", "R@5": "recall_at_5", "R@10": "recall_at_10"}


def say(line: str) -> None:
    "Progress goes to standard error; standard output is for the result."
    print(line, file=sys.stderr, flush=True)


def extract(folder: str, work: Path) -> tuple[Workspace, object]:
    "Run the stages up to the features for a folder of clips, or for generated samples."
    from avmatch.ingest import run_ingest
    changes = {"ingest": {"source": "folder", "videos": str(Path(folder).absolute())}} if folder else {}
    config = prepare_weights(load_config(changes), say=say)
    listens = config.audio_features.encoder
    if "mfcc" not in listens: config = override(config, {"audio_features": {"encoder": listens + "+mfcc"}})   # for the ablation
    workspace = Workspace(work / (hashlib.sha256(str(Path(folder).absolute()).encode()).hexdigest()[:12] if folder else "samples") / "data")
    for stage in (run_ingest, run_process, run_audio_features, run_video_features):
        say(f"{stage.__name__}: {stage(config, workspace)}")
    return workspace, override(config, {"audio_features": {"encoder": listens}})


def read_groups(folder: str, column: str) -> dict[str, str]:
    "What clips.csv says of each clip, by the clip's id and by the name of its file."
    path = Path(folder) / "clips.csv" if folder else Path("no such file")
    if not path.is_file(): return {}
    with path.open(encoding="utf-8", newline="") as file: rows = list(csv.DictReader(file))
    if not column and "source" not in (rows[0] if rows else ()): return {}
    column = column or "source"
    if rows and column not in rows[0]: sys.exit(f"{path} has no column {column!r}; --group-by names one of {', '.join(rows[0])}")
    return {key: row[column] for row in rows for key in (row.get("id"), Path(row.get("file") or "").stem) if key and row.get(column)}


def without(clips: ClipSet, *encoders: str, mean_only: bool = False) -> ClipSet:
    "The clips as if some encoders did not exist, or as if time did not."
    metas, sides = {}, {}
    for side in ("video", "audio"):
        meta, kept = clips.metas[side], []
        listed, start = [], 0
        for encoder in meta["encoders"]:
            if encoder["name"] in encoders: continue
            place = columns_of(meta, encoder["name"])
            kept.append(np.arange(place.start, place.stop))
            moved = {g: [a - place.start + start, b - place.start + start] for g, (a, b) in encoder["columns"].items()}
            listed.append(encoder | {"columns": moved})
            start += place.stop - place.start
        metas[side] = meta | {"encoders": listed, "dim": start, "encoder": "+".join(e["name"] for e in listed)}
        rows = [x[:, np.concatenate(kept)] for x in getattr(clips, side)]
        sides[side] = [x.mean(axis=0, keepdims=True) for x in rows] if mean_only else rows
    return replace(clips, **sides, metas=metas)


class Answers:
    "Figures of the queries of one or more folds."
    def __init__(self): self.figures, self.tracks, self.gallery, self.rungs = [], [], [], []

    def add(self, scores: np.ndarray, tracks: list[str]) -> None:
        "Judge sounds-by-clips scores of a fold."
        track_ids = sorted(set(tracks))
        best = best_of_tracks(scores, tracks, track_ids)
        self.figures.append(query_figures(best, np.array(tracks)[:, None] == np.array(track_ids)))
        self.tracks += tracks
        self.gallery.append(len(track_ids))

    def pooled(self) -> dict[str, np.ndarray]:
        "The figures of all queries."
        return pool_folds(self.figures)

    def table(self) -> dict:
        "Means with intervals."
        figures = self.pooled()
        spans = {name: bootstrap_interval(figures[key], self.tracks) for name, key in NAMES.items()}
        return {name: round(float(figures[key].mean()), 4) for name, key in NAMES.items()} | {
            "MedR": float(np.median(figures["rank"])), "MnR": round(float(figures["rank"].mean()), 2),
            "queries": len(self.tracks), "gallery": round(float(np.mean(self.gallery)), 1),
            "ci": {name: [round(float(x), 4) for x in spans[name]] for name in NAMES}}


def fit(train: ClipSet, config, look_alikes) -> object:
    "The default's matcher for some training clips, as stage 05 fits it."
    return fit_clips(train, train.take([]), config, look_alikes=look_alikes)[0]


def answer(matcher, test: ClipSet, weights=None) -> np.ndarray:
    "Scores of the test clips with the test sounds."
    parts = matcher.parts(matcher.describe_clips(test.video), matcher.describe_sounds(test.audio))
    return blend(parts, matcher.weights if weights is None else weights)


def variants(config) -> dict[str, tuple]:
    "What the ablation leaves out: name -> (change of the clips, change of the config, parts without weight)."
    same = lambda clips: clips
    return {
        "without the joint space": (same, config, ("joint", "hub")), "without words": (same, config, ("words",)),
        "without rhythm": (same, config, ("~",)), "without the hub correction": (same, config, ("hub",)),
        "without YAMNet": (lambda c: without(c, "yamnet"), config, ()),
        "without musicnn": (lambda c: without(c, "musicnn"), config, ()),
        "MFCC and rhythm only": (lambda c: without(c, "yamnet", "musicnn"), config, ()),
        "without time (one mean)": (lambda c: without(c, mean_only=True), config, ()),
        "engagement not weighed": (same, override(config, {"train": {"tau": 0.0}}), ()),
        "no pairs learned from": (same, override(config, {"train": {"rungs": "words"}}), ()),
        "contrastive loss, linear": (same, override(config, {"train": {"rungs": "linear"}}), ())}


def run(splits, clips: ClipSet, recipe, config, *, look_alikes, seed: int, changed=None) -> dict[str, Answers]:
    "Train and answer for each split; `changed` restricts it to the variants of the ablation."
    base = [e for e in ("mfcc",) if e not in config.audio_features.encoder]
    found: dict[str, Answers] = {}
    for train_rows, test_rows in splits:
        train, test = clips.take(train_rows), clips.take(test_rows)
        plain = [without(part, *base) for part in (train, test)]
        fitted = fit(plain[0], config, look_alikes)
        say(f"{len(train)} training clips: rung {fitted.rung} ({fitted.view})")
        found.setdefault("ours", Answers()).add(answer(fitted.matcher, plain[1]), test.tracks)
        scores = report_recipe.train_and_score(tuple(x[train_rows] for x in recipe), tuple(x[test_rows] for x in recipe), seed)
        found.setdefault("seed", Answers()).add(scores, test.tracks)
        for name, (change, other, off) in (changed or {}).items():
            matcher = fitted.matcher
            source = plain if "MFCC" not in name and "YAMNet" not in name else (train, test)
            part = [change(p) for p in source]
            if not off: matcher = fit(part[0], other, look_alikes).matcher
            weights = {k: w for k, w in matcher.weights.items() if not any(o == k or o == "~" and "~" in k for o in off)}
            found.setdefault(name, Answers()).add(answer(matcher, part[1], weights), test.tracks)
    return found


def prepare(folder: str, args: argparse.Namespace, prefix: str = "") -> tuple[ClipSet, tuple, dict, object]:
    "Clips with their features, those of the report's recipe, hashes of pictures, and the config."
    groups = read_groups(folder, args.group_by)
    workspace, config = extract(folder, Path(args.work) if args.work else cache_folder() / "retrieval")
    lost = skipped_ids(workspace.audio_features) | skipped_ids(workspace.video_features)
    entries = [e | {"channel_id": groups.get(e["video_id"], e["channel_id"])} for e in load_manifest(workspace) if e["video_id"] not in lost]
    clips, hashes = load_clips(workspace, entries), load_hashes(workspace, entries)
    recipe = report_recipe.extract(entries, workspace, workspace.root / "report_recipe")
    named = [e | {"video_id": prefix + e["video_id"], "track_id": prefix + e["track_id"],
                  "wav": str(workspace.resolve(e["audio_path"]))} for e in entries]
    return replace(clips, entries=named), recipe, {prefix + i: h for i, h in hashes.items()}, config


def listen(path: str) -> object:
    "The fingerprint of a WAV file."
    y, sr = read_wav(Path(path))
    return fingerprint(y, sr=sr)


def keep_apart(clips: ClipSet, n_train: int, look_alikes) -> np.ndarray:
    "Training rows that share no sound and no picture with the test clips, which stand behind them."
    sounds = [listen(e["wav"]) for e in clips.entries]
    places = group_by_sound(sounds)
    taken = set(places[n_train:])
    ids = {e["video_id"]: i for i, e in enumerate(clips.entries)}
    twins = {ids[a] for pair in look_alikes for a, b in (pair, pair[::-1]) if ids[a] < n_train <= ids[b]}
    rows = np.array([i for i in range(n_train) if places[i] not in taken and i not in twins], dtype=int)
    if len(rows) < n_train: say(f"{n_train - len(rows)} training clips share a sound or pictures with test clips and are left out")
    return rows


def ideal(clips: ClipSet, rows: np.ndarray) -> tuple[np.ndarray, list[str]]:
    "What one reaches who reads the plan of the generated clips without error."
    plans = {c.video_id: c for c in plan_samples(load_config().ingest.n_tracks, load_config().ingest.clips_per_track, bad=False)}
    asked = [plans[clips.entries[i]["video_id"]] for i in rows]
    return ideal_similarity(asked, [c.track for c in asked], use_tempo=True), [clips.entries[i]["track_id"] for i in rows]


def measure(args: argparse.Namespace) -> dict:
    "All figures."
    clips, recipe, hashes, config = prepare(args.clips, args)
    n, changed, total = len(clips), None, {}
    if args.test_clips:
        test, test_recipe, test_hashes, _ = prepare(args.test_clips, args, prefix="test/")
        clips, hashes = join_clips(clips, test), hashes | test_hashes
        recipe = tuple(np.concatenate(pair) for pair in zip(recipe, test_recipe))
    look_alikes = near_duplicates(hashes)
    if args.ablate: changed = variants(config)
    for seed in range(args.seeds):
        if args.test_clips: splits = [(keep_apart(clips, n, look_alikes), np.arange(n, len(clips)))]
        else:
            place = {e["video_id"]: i for i, e in enumerate(clips.entries)}
            folds = [np.array([place[i] for i in ids]) for ids in k_folds(clips.entries, args.folds, seed, look_alikes=look_alikes)]
            splits = [(np.setdiff1d(np.arange(n), fold), fold) for fold in folds]
            for train, fold in splits:
                check_overlap({name: [clips.entries[i]["video_id"] for i in rows] for name, rows in (("train", train), ("test", fold))},
                              clips.entries, look_alikes=look_alikes)
        found = run(splits, clips, recipe, config, look_alikes=look_alikes, seed=seed, changed=changed)
        if not args.clips:
            found["ideal"] = Answers()
            for _, rows in splits: found["ideal"].add(*ideal(clips, rows))
        for name, answers in found.items(): total.setdefault(name, []).append(answers)
    return summary({name: merge(answers) for name, answers in total.items()})


def merge(parts: list[Answers]) -> Answers:
    "The answers of several seeds as one."
    whole = Answers()
    for part in parts:
        for name in ("figures", "tracks", "gallery"): setattr(whole, name, getattr(whole, name) + getattr(part, name))
    return whole


def summary(found: dict[str, Answers]) -> dict:
    "Tables of all matchers, and how many times better ours is than the report's recipe."
    tables = {name: answers.table() for name, answers in found.items()}
    ours, seed = (found[name].pooled() for name in ("ours", "seed"))
    ratio, spans = {}, {}
    for name, key in NAMES.items():
        paired = paired_bootstrap(ours[key], seed[key], found["ours"].tracks)
        ratio[name] = round(float(paired.ratio), 3)
        spans[name] = [round(float(x), 3) if x < 1_000 else None for x in paired.ratio_interval]   # none: the recipe may find none
    for name in ("MedR", "MnR"): ratio[name] = round(tables["ours"][name] / tables["seed"][name], 3)
    gallery = tables["ours"]["gallery"]
    ratio |= {"queries": tables["ours"]["queries"], "gallery": gallery, "ci": spans}
    chance = {"MRR": round(float(np.mean(1 / np.arange(1, round(gallery) + 1))), 4), "R@10": round(min(10 / gallery, 1), 4)}
    others = {name: table for name, table in tables.items() if name not in ("ours", "seed")}
    return {"ours": tables["ours"], "seed": tables["seed"], "ratio": ratio, "chance": chance} | ({"others": others} if others else {})


def as_text(result: dict) -> str:
    "The figures as a table."
    ours = result["ours"]
    recalls, chance = list(NAMES)[1:], result["chance"]
    lines = [f"{ours['queries']} queries, galleries of {ours['gallery']:g} tracks on average; "
             f"chance: MRR {chance['MRR']:.3f}, R@10 {chance['R@10']:.3f}\n",
             f"{'':26}{'MRR':>7}  {'95 % interval':<16}" + "".join(f"{name:>7}" for name in (*recalls, "MedR", "MnR"))]
    for name, row in {"avmatch": ours, "the report's recipe": result["seed"], **result.get("others", {})}.items():
        span = "{:.3f} to {:.3f}".format(*row["ci"]["MRR"])
        shares = "".join(f"{row[n]:7.3f}" for n in recalls)
        lines.append(f"{name:26}{row['MRR']:7.3f}  {span:<16}{shares}{row['MedR']:7.1f}{row['MnR']:7.1f}")
    low, high = result["ratio"]["ci"]["MRR"]
    return "\n".join([*lines, "", f"avmatch is {result['ratio']['MRR']:.2f} times as good by MRR (95 %: {low:.2f} to {high:.2f})"])


def main() -> None:
    "Extract what is missing, train, test and print."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", default="", help="folder of videos (default: generated samples)")
    parser.add_argument("--test-clips", default="", help="folder of videos to test on (default: folds of --clips)")
    parser.add_argument("--folds", type=int, default=4, help="parts that are tested in turn")
    parser.add_argument("--group-by", default="", help="column of clips.csv that keeps clips together (default: source, if it is there)")
    parser.add_argument("--seeds", type=int, default=1, help="repetitions with other folds")
    parser.add_argument("--ablate", action="store_true", help="also leave out one thing at a time")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--work", default="", help="folder for what is extracted")
    args = parser.parse_args()
    if args.test_clips and not args.clips: parser.error("--test-clips needs --clips to learn from")
    try: result = measure(args)
    except AvmatchError as e: sys.exit(f"retrieval: {e}")
    print(json.dumps(result, indent=1) if args.json else as_text(result))


if __name__ == "__main__":
    main()
