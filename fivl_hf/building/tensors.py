"""Released mask tensors, read as untrusted files: no code runs, and nothing large is allocated."""

import io
import pickle
import pickletools
import re
import zipfile

import numpy as np
import torch

from fivl_hf.images import PADDED_PATCHES
from fivl_hf.masks import FloatArray

__all__ = ["MAX_TENSOR_BYTES", "TensorError", "load_grid"]

_EXPECTED = f"{PADDED_PATCHES}×{PADDED_PATCHES}"
# The released files have 5.9 KB.
MAX_TENSOR_BYTES = 64_000
# The operations in a tensor's pickle: without dictionaries, whose keys could take for ever to hash.
_OPERATIONS = {
    *(
        "PROTO",
        "FRAME",
        "STOP",
        "GLOBAL",
        "REDUCE",
        "MARK",
        "BINPERSID",
        "BINPUT",
        "LONG_BINPUT",
        "BINGET",
        "LONG_BINGET",
    ),
    *("MEMOIZE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_TUPLE", "BINUNICODE", "SHORT_BINUNICODE"),
    *("BININT", "BININT1", "BININT2", "LONG1", "NEWTRUE", "NEWFALSE", "NONE"),
}
# What it calls.
_CALLED = re.compile(r"torch\._utils _rebuild_tensor_v2|torch \w+Storage|collections OrderedDict")
_NUMBERS = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8)


class TensorError(ValueError):
    """A file that holds no released mask; the message is one of few, so that they can be counted."""


def load_grid(data: bytes) -> FloatArray:
    """Read a ``torch.save``d 24×24 tensor of 0 to 255: the mean of a mask over each cell of the padded image.

    Returns:
        (24, 24) float64, 0 to 1.

    Raises:
        TensorError: too large, compressed or nested beyond its size, a pickle that holds more than a tensor, or a
            tensor of another kind.
    """
    if len(data) > MAX_TENSOR_BYTES:
        raise TensorError(f"a file of more than {MAX_TENSOR_BYTES:,} bytes")
    _check_archive(data)
    _check_pickle(data)
    try:
        value = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise TensorError("a pickle that holds more than a tensor") from error
    except Exception as error:
        # The unpickler raises all sorts of things on bytes that were tampered with.
        raise TensorError("not a torch.save file") from error
    plain = isinstance(value, torch.Tensor) and value.layout == torch.strided and value.device.type == "cpu"
    if plain and value.ndim == 2 and tuple(value.shape) != (PADDED_PATCHES, PADDED_PATCHES):
        raise TensorError(f"{value.shape[0]}×{value.shape[1]} cells where the release has {_EXPECTED}")
    if not plain or value.ndim != 2 or value.dtype not in _NUMBERS:
        raise TensorError(f"not a tensor of {_EXPECTED} numbers")
    grid = value.detach().to(torch.float64).numpy() / 255.0
    if not np.isfinite(grid).all() or grid.min() < -1e-6 or grid.max() > 1 + 1e-6:
        raise TensorError("values that are not between 0 and 255")
    return np.clip(grid, 0.0, 1.0)


def _check_archive(data: bytes) -> None:
    """Only the format that torch has written since 2020: a ZIP file whose members are stored as they are."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError) as error:
        raise TensorError("not a torch.save file") from error
    # A small file may claim to unpack to gigabytes.
    unpacked = sum(member.file_size for member in members)
    if unpacked > MAX_TENSOR_BYTES or any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise TensorError("a file that unpacks to more than it holds")


def _check_pickle(data: bytes) -> None:
    """Only what a pickled tensor needs: ``weights_only`` also lets a few bytes ask for a ``bytearray`` of gigabytes."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        # torch finds its files whatever the case of their names.
        pickles = [name for name in archive.namelist() if name.lower().endswith("data.pkl")]
        try:
            operations = [each for name in pickles for each in pickletools.genops(archive.read(name))]
        except (ValueError, zipfile.BadZipFile, EOFError) as error:
            raise TensorError("not a torch.save file") from error
    for operation, argument, _ in operations:
        if operation.name not in _OPERATIONS or (operation.name == "GLOBAL" and not _CALLED.fullmatch(str(argument))):
            raise TensorError("a pickle that holds more than a tensor")
