"""Peak memory of a piece of a benchmark."""

from pathlib import Path

import torch

__all__ = ["Memory"]


class Memory:
    """Peak memory above what is held when it is made, in MB: of the device, or of this process on a CPU."""

    def __init__(self, device: str) -> None:
        self.device = device
        if device == "cpu":
            Path("/proc/self/clear_refs").write_text("5")
        else:
            torch.cuda.reset_peak_memory_stats()
        self.before = self._read("VmRSS")

    def peak(self) -> float:
        return self._read("VmHWM") - self.before

    def _read(self, field: str) -> float:
        if self.device != "cpu":
            read = torch.cuda.memory_allocated if field == "VmRSS" else torch.cuda.max_memory_allocated
            return read() / 2**20
        status = Path("/proc/self/status").read_text()
        return int(status.split(f"{field}:")[1].split()[0]) / 1024
