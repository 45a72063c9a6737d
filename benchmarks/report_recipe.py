"""The report's recipe as it was written, to measure against: nothing of it is improved, and nothing of it is in the product.

Mean MFCC and mean pictures, two projections, Adam at 1e-4 for ten epochs of batches of sixteen, a loss in one direction whose
engagement weights cancel out. It reads the frames and the sound that the pipeline extracted, at most 30 frames a clip.
"""
from collections.abc import Sequence
from pathlib import Path

import numpy as np

MAX_FRAMES = 30


def mean_mfcc(path: Path) -> np.ndarray:
    "Mean of 40 MFCC of a WAV file, shape (40,)."
    import librosa
    y, sr = librosa.load(path, sr=22_050, mono=True)
    return librosa.feature.mfcc(y=y, sr=sr, n_mfcc=40).mean(axis=1)


def mean_picture(folder: Path, network) -> np.ndarray:
    "Mean embedding of the frames of a clip, each squeezed into a square, shape (1280,)."
    import cv2
    images = [cv2.cvtColor(cv2.imread(str(p)), cv2.COLOR_BGR2RGB) for p in sorted(folder.glob("frame_*.jpg"))[:MAX_FRAMES]]
    squares = np.stack([cv2.resize(image, (224, 224)) for image in images]).astype(np.float32) / 255
    return network(((squares - 0.498) / 0.502).transpose(0, 3, 1, 2))[0].mean(axis=0)


def extract(entries: Sequence[dict], workspace, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    "Features of clips and sounds, shapes (n, 1280) and (n, 40); what is in the cache is not computed again."
    from avmatch.config import VideoFeaturesConfig
    from avmatch.video_encoders import efficientnet_lite0
    network = efficientnet_lite0(VideoFeaturesConfig(encoder="efficientnet_lite0")).run
    cache.mkdir(parents=True, exist_ok=True)
    video, audio = [], []
    for entry in entries:
        path = cache / f"{entry['video_id']}.npz"
        if not path.exists():
            seen, heard = workspace.resolve(entry["frames_dir"]), workspace.resolve(entry["audio_path"])
            np.savez(path, video=mean_picture(seen, network), audio=mean_mfcc(heard))
        with np.load(path) as found:
            video.append(found["video"])
            audio.append(found["audio"])
    return np.stack(video).astype(np.float32), np.stack(audio).astype(np.float32)


def train_and_score(train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], seed: int) -> np.ndarray:
    "Cosines of the test clips with the test sounds, shape (n, n), after training on the others."
    import torch
    import torch.nn as nn
    import torch.nn.functional as F
    torch.manual_seed(seed)
    projection = lambda dim: nn.Sequential(nn.Linear(dim, 256), nn.ReLU(), nn.LayerNorm(256))
    see, hear = projection(train[0].shape[1]), projection(train[1].shape[1])
    optimizer = torch.optim.Adam([*see.parameters(), *hear.parameters()], lr=1e-4)
    video, audio = map(torch.from_numpy, train)
    for _ in range(10):
        for batch in torch.randperm(len(video)).split(16):
            logits = F.normalize(see(video[batch]), dim=1) @ F.normalize(hear(audio[batch]), dim=1).T / 0.07
            engagement = torch.ones(len(batch))
            weights = engagement / engagement.mean()
            loss = F.cross_entropy(logits, torch.arange(len(batch))) * weights.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.inference_mode():
        v, a = see(torch.from_numpy(test[0])), hear(torch.from_numpy(test[1]))
        return (F.normalize(v, dim=1) @ F.normalize(a, dim=1).T).numpy()
