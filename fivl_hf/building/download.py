"""FiVL-Instruct's source files: the release and LLaVA's conversations from the Hub, and which images are missing."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm.auto import tqdm

from fivl_hf.augment.inputs.conversations import Conversation
from fivl_hf.augment.inputs.readers import llava_records
from fivl_hf.building.release import ARCHIVE_FILE, CONVERSATIONS_FILE, SEGMENTS_FILE
from fivl_hf.models import hub_is_reachable, why_unreachable

__all__ = ["IMAGE_ARCHIVES", "ImageArchive", "download_release", "missing_images"]

# Their datasets on the Hub.
_FILES = {
    SEGMENTS_FILE: "Intel/fivl-instruct",
    ARCHIVE_FILE: "Intel/fivl-instruct",
    CONVERSATIONS_FILE: "liuhaotian/LLaVA-Instruct-150K",
}
_BLOCK = 1 << 20


@dataclass(frozen=True)
class ImageArchive:
    """A collection of images that LLaVA's conversations name.

    Attributes:
        folder: of the images, below the data folder.
        source: how to get them: an archive holds the last part of ``folder`` itself.
    """

    folder: str
    source: str

    def instruction(self, data: Path) -> str:
        """Say what to do to have the images in a data folder."""
        if self.source.startswith("http"):
            return f"unpack {self.source} in {(data / self.folder).parent}"
        return self.source


# From LLaVA's instructions for visual instruction tuning.
IMAGE_ARCHIVES = (
    ImageArchive("coco/train2017", "http://images.cocodataset.org/zips/train2017.zip"),
    ImageArchive("gqa/images", "https://downloads.cs.stanford.edu/nlp/data/gqa/images.zip"),
    ImageArchive("ocr_vqa/images", "run the download script of https://ocr-vqa.github.io; save every image as .jpg"),
    ImageArchive("textvqa/train_images", "https://dl.fbaipublicfiles.com/textvqa/images/train_val_images.zip"),
    ImageArchive("vg/VG_100K", "https://cs.stanford.edu/people/rak248/VG_100K_2/images.zip"),
    ImageArchive("vg/VG_100K_2", "https://cs.stanford.edu/people/rak248/VG_100K_2/images2.zip"),
)


def download_release(folder: Path) -> dict[str, int]:
    """Download what ``fivl build fivl_instruct`` reads, except for the images; an interrupted download resumes.

    Args:
        folder: where the files go; made if it does not exist. Files that are there and complete are not sent again.

    Returns:
        Size in bytes of each file.

    Raises:
        OSError: the Hub cannot be reached, a repository or file is not there, or the disk is full.
        ValueError: a file is not what the Hub says it is, in size or digest.
    """
    import httpx2
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    if not hub_is_reachable():
        raise OSError(f"nothing can be downloaded: {why_unreachable()}")
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {}
    for name, repo in _FILES.items():
        try:
            infos = HfApi().get_paths_info(repo, [name], repo_type="dataset")
            if not infos:
                raise FileNotFoundError(f"the Hub's dataset {repo} holds no {name}: it was changed or moved")
            path = Path(hf_hub_download(repo, name, repo_type="dataset", local_dir=folder))
        except (HfHubHTTPError, httpx2.TransportError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise OSError(f"{name} of the Hub's dataset {repo}: {reason}; run the command again to go on") from error
        _require_intact(path, infos[0])
        sizes[name] = path.stat().st_size
    return sizes


def _require_intact(path: Path, info: Any) -> None:
    """Check a file's size and digest against the Hub's: SHA-256 of large files, Git's hash of others."""
    size = path.stat().st_size
    digest, expected = (hashlib.sha256(), info.lfs.sha256) if info.lfs else (hashlib.sha1(), info.blob_id)
    if not info.lfs:
        digest.update(f"blob {size}\0".encode())
    if size == info.size:
        with path.open("rb") as file, tqdm(total=size, desc=f"check {path.name}", unit="B", unit_scale=True) as bar:
            while block := file.read(_BLOCK):
                digest.update(block)
                bar.update(len(block))
    if size != info.size or digest.hexdigest() != expected:
        raise ValueError(
            f"{path} is not the file on the Hub ({size:,} bytes; expected {info.size:,}, digest {expected}): delete it "
            "and run the command again"
        )


def missing_images(conversations: Path, roots: Sequence[Path]) -> dict[str, tuple[int, int]]:
    """Count the images that LLaVA's conversations name, and how many of them are missing.

    Args:
        conversations: ``llava_v1_5_mix665k.json``.
        roots: folders that hold coco, gqa, ocr_vqa, textvqa and vg.

    Returns:
        For each folder of images, such as "coco/train2017", the number of images named and of those missing.

    Raises:
        ValueError: the conversations are not valid JSON.
    """
    named = set(_image_names(conversations, roots))
    folders = {name.parent for name in named}
    existing = {folder: {file for root in roots for file in _files(root / folder)} for folder in folders}
    total = Counter(str(name.parent) for name in named)
    missing = Counter(str(name.parent) for name in named if name.name not in existing[name.parent])
    return {folder: (total[folder], missing[folder]) for folder in sorted(total)}


def _image_names(conversations: Path, roots: Sequence[Path]) -> Iterator[PurePosixPath]:
    records = llava_records(conversations, roots)
    for record in tqdm(records, desc="look for images", unit="sample"):
        if isinstance(record, Conversation):
            yield from (PurePosixPath(image.name) for image in record.images)


def _files(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []
