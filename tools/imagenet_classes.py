"""Write avmatch/data/imagenet_classes.txt: what the 1000 classes of ImageNet are called, one a line, in the order of their numbers.

    python -m tools.imagenet_classes

The names are those that torchvision states beside its own ImageNet weights (torchvision.models._meta, BSD-3-Clause).
"""
from pathlib import Path

PATH = Path(__file__).parent.parent / "avmatch" / "data" / "imagenet_classes.txt"


def main() -> None:
    "Take torchvision's list and write it down."
    from avmatch.video_encoders import import_torchvision
    import_torchvision()
    from torchvision.models._meta import _IMAGENET_CATEGORIES as names
    assert len(names) == len(set(names)) == 1000, "names must be unique, one for each class"
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text("\n".join(names) + "\n", encoding="utf-8")
    print(f"{PATH.name}: {len(names)} names")


if __name__ == "__main__": main()
