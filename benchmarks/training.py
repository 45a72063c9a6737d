"""Training on cached features: how fast the loop goes, how much memory it takes, and how soon it is good.

    python benchmarks/training.py [--clips N] [--epochs N] [--seconds S] [--json]

The features are made up, of the report's widths: 512 numbers of a picture and 40 of its sound. A cause of 32 numbers is in both, under
noise, so that there is something to learn; the last clips are held out. Ours is `fit_two_tower` on arrays that stay on the disk
(`np.load(..., mmap_mode="r")`). The recipe is the report's loop: a DataLoader of batches of 16, each clip's two files opened when its
turn comes, Adam at 1e-4, a loss in one direction whose weights cancel out. Both train the report's model from the same start.

Samples a second are taken in turns, the recipe's over some of its batches, the best of three. The bound is the same model and optimizer
with a loss in both directions, PyTorch's cross-entropy or ours, whichever is faster, on batches that lie ready in memory, nothing else:
no choice of a batch, no average of the weights, no limit to the gradient.
"From memory" is the recipe without its files, the kindest reading of it.
The MRR to be reached is what the recipe reaches in --epochs epochs; its validation is not counted, ours is.
"""
import itertools
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil
import table
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

from avmatch.joint_model import JointModel, contrastive_loss
from avmatch.pairs import Pairs, mean_reciprocal_rank
from avmatch.training_loop import LoopSettings, embed_pairs, fit_two_tower

SIDES, CAUSE, VAL = {"video": 512, "audio": 40}, 32, 2_000
BATCHES = (256, 1024)   # ours: where a processor is fastest, and the default of the loop
Batches = Iterable[tuple[torch.Tensor, ...]]   # video, audio and engagement


def write_features(folder: Path, n_clips: int) -> None:
    "One array a side, and one file a clip and side, as the report keeps them."
    rng = np.random.default_rng(0)
    cause = rng.standard_normal((n_clips, CAUSE), dtype=np.float32)
    for side, width in SIDES.items():
        x = cause @ rng.standard_normal((CAUSE, width), dtype=np.float32) + 8 * rng.standard_normal((n_clips, width), dtype=np.float32)
        np.save(folder / f"{side}.npy", x)
        (folder / side).mkdir()
        for i, row in enumerate(x):
            if side == "audio": np.save(folder / side / f"{i}.npy", row)
            else: torch.save(torch.from_numpy(row.copy()), folder / side / f"{i}.pt")


def load_pairs(folder: Path, *, memory: bool) -> tuple[Pairs, Pairs]:
    "Training and validation pairs, in memory or on the disk."
    video, audio = (np.load(folder / f"{side}.npy", mmap_mode=None if memory else "r") for side in SIDES)
    n_train = len(video) - min(VAL, len(video) // 5)
    return tuple(Pairs(video[part], audio[part], np.arange(len(video))[part]) for part in (slice(n_train), slice(n_train, None)))


class ClipFiles(Dataset):
    "The report's data: two files a clip, opened when they are wanted."
    def __init__(self, folder: Path, n_clips: int): self.folder, self.n_clips = folder, n_clips
    def __len__(self) -> int: return self.n_clips
    def __getitem__(self, i: int) -> tuple[torch.Tensor, ...]:
        audio = torch.from_numpy(np.load(self.folder / "audio" / f"{i}.npy"))
        return torch.load(self.folder / "video" / f"{i}.pt"), audio, torch.tensor(1.0)


def new_model() -> JointModel:
    "The report's model, always from the same start."
    torch.manual_seed(0)
    return JointModel(*SIDES.values())


def report_loop(model: JointModel, batches: Batches, optimizer: torch.optim.Optimizer) -> None:
    "The report's training, an epoch of it."
    model.train()
    for video, audio, engagement in batches:
        v, a = (F.normalize(x, dim=1) for x in model(video, audio))
        loss = F.cross_entropy(v @ a.T / 0.07, torch.arange(len(v))) * (engagement / engagement.mean()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def cross_entropies(v: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    "Both directions of the loss, as PyTorch has it."
    logits, own = F.normalize(v, dim=1) @ F.normalize(a, dim=1).T / 0.07, torch.arange(len(v))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def our_loss(v: torch.Tensor, a: torch.Tensor) -> torch.Tensor: return contrastive_loss(v, a, torch.arange(len(v)), logit_scale=1 / 0.07)


def ready_loop(model: JointModel, batches: Batches, optimizer: torch.optim.Optimizer, *, loss: Callable) -> None:
    "What cannot be left out: the model, a loss, the gradient and the step."
    for video, audio, _ in batches:
        loss(*model(video, audio)).backward()
        optimizer.step()
        optimizer.zero_grad()


class Watch:
    "Notes the most memory that this process had for itself, pages of files not counted (MB)."
    def __enter__(self) -> "Watch":
        self.peak, self.done = private_memory(), threading.Event()
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def look(self) -> None:
        "Look again and again."
        while not self.done.wait(0.005): self.peak = max(self.peak, private_memory())

    def __exit__(self, *error: object) -> None:
        self.done.set()
        self.thread.join()


def private_memory() -> float:
    "What is resident and no page of a file (MB)."
    found = psutil.Process().memory_info()
    return (found.rss - getattr(found, "shared", 0)) / 1e6


def settings_of(batch_size: int, n_epochs: int) -> LoopSettings:
    "Our loop as it is, with batches of a given size."
    return LoopSettings(epochs=n_epochs, full_batch=0, batch_size=batch_size, patience=0, device="cpu")


def watched_fit(folder: Path, memory: bool) -> tuple[list[float], float]:
    "The losses of two epochs, and by how much this process grew (MB), its data counted where they are in memory."
    model, before = new_model(), private_memory()
    with Watch() as watch: result = fit_two_tower(model, *load_pairs(folder, memory=memory), settings_of(1024, 2))
    return [line["loss"] for line in result.history], watch.peak - before


def memory_rows(folder: Path) -> list[dict]:
    "Peak memory with features on the disk and in memory, each in a process of its own; both must learn the same."
    grown = {}
    for memory in (False, True):
        with ProcessPoolExecutor(1, get_context("spawn")) as fresh: grown[memory] = fresh.submit(watched_fit, folder, memory).result()
    if grown[False][0] != grown[True][0]: raise SystemExit(f"losses differ: {grown[False][0]} from the disk, {grown[True][0]} from memory")
    size = sum((folder / f"{side}.npy").stat().st_size for side in SIDES) / 1e6
    return [table.row(f"peak memory, {size:.0f} MB of features {place}", grown[memory][1], "MB")
            for memory, place in ((False, "on the disk"), (True, "in memory"))]


def adam(model: JointModel) -> torch.optim.Optimizer:
    "As the report has it."
    return torch.optim.Adam(model.parameters(), lr=1e-4)


def adamw(model: JointModel) -> torch.optim.Optimizer:
    "As our loop has it."
    return torch.optim.AdamW(model.parameters(), lr=LoopSettings.lr, weight_decay=LoopSettings.weight_decay, fused=True)


def loader(data: Dataset) -> DataLoader: return DataLoader(data, batch_size=16, shuffle=True)


def rate_of(loop: Callable, batches: Batches, seconds: float, *, optimizer: Callable) -> float:
    "Samples a second of a loop over batches, until some seconds are over."
    model, n_done, it = new_model(), 0, iter(batches)
    stepper, began = optimizer(model), time.perf_counter()
    while (batch := next(it, None)) is not None and time.perf_counter() - began < seconds:
        loop(model, [batch], stepper)
        n_done += len(batch[0])
    return n_done / (time.perf_counter() - began)


def our_rate(pairs: Pairs, batch_size: int) -> float:
    "Samples a second of an epoch of ours."
    return len(pairs) / fit_two_tower(new_model(), pairs, None, settings_of(batch_size, 1)).history[0]["seconds"]


def rate_rows(folder: Path, seconds: float) -> list[dict]:
    "Samples a second of all of them, taken in turns."
    train, n = load_pairs(folder, memory=False)[0], len(load_pairs(folder, memory=False)[0])
    tensors = TensorDataset(*(torch.from_numpy(np.array(x)) for x in (train.video, train.audio)), torch.ones(n))
    best: dict[str, float] = {}
    for _ in range(3):
        ways = {"files": lambda: rate_of(report_loop, loader(ClipFiles(folder, n)), seconds, optimizer=adam),
                "tensors": lambda: rate_of(report_loop, loader(tensors), seconds, optimizer=adam)}
        for size in BATCHES:
            ready = [tensors[i:i + size] for i in range(0, min(n, 8 * size), size)]
            ways[f"ours {size}"] = partial(our_rate, train, size)
            for loss in (cross_entropies, our_loss):
                loop = partial(ready_loop, loss=loss)
                ways[f"{loss.__name__} {size}"] = partial(rate_of, loop, itertools.cycle(ready), seconds, optimizer=adamw)
        for way, rate in ways.items(): best[way] = max(best.get(way, 0), rate())
    for size in BATCHES: best[f"bound {size}"] = max(best[f"cross_entropies {size}"], best[f"our_loss {size}"])
    rows = [table.row(f"training, batches of {size}", best[f"ours {size}"], "samples/s", recipe=best["files"], bound=best[f"bound {size}"])
            for size in BATCHES]
    first = f"ours {BATCHES[0]}"
    return [*rows, table.row("the same, the recipe from memory", best[first], "samples/s", recipe=best["tensors"]),
            table.row(f"an epoch of {n:,} clips", n / best[first], "s", recipe=n / best["files"], bound=n / best[f"bound {BATCHES[0]}"])]


def goal_row(folder: Path, n_epochs: int) -> dict:
    "How long it takes until held-out clips are found as well as the recipe finds them in the end."
    train, val = load_pairs(folder, memory=False)
    model = new_model()
    optimizer, began = adam(model), time.perf_counter()
    for _ in range(n_epochs): report_loop(model, loader(ClipFiles(folder, len(train))), optimizer)
    recipe = time.perf_counter() - began
    goal = mean_reciprocal_rank(*embed_pairs(model, val, LoopSettings()), val.track)
    history = fit_two_tower(new_model(), train, val, settings_of(BATCHES[0], n_epochs)).history
    needed = next((i for i, line in enumerate(history, start=1) if line["val_mrr"] >= goal), None)
    if needed is None: raise SystemExit(f"MRR {goal:.3f} was not reached in {n_epochs} epochs; the best was {max(h['val_mrr'] for h in history):.3f}")
    name = f"until validation MRR {goal:.3f} (epoch {needed} of ours)"
    return table.row(name, sum(line["seconds"] for line in history[:needed]), "s", recipe=recipe)


def main() -> None:
    parser = table.parser(__doc__)
    parser.add_argument("--clips", type=int, default=100_000, help="how many, those held out among them")
    parser.add_argument("--epochs", type=int, default=2, help="of the recipe, until its MRR is the goal")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each measurement of a rate")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_features(folder, args.clips)
        rows = [*rate_rows(folder, args.seconds), *memory_rows(folder), goal_row(folder, args.epochs)]
    table.show(rows, f"Training on {args.clips:,} clips, {min(VAL, args.clips // 5):,} of them held out", args)


if __name__ == "__main__": main()
