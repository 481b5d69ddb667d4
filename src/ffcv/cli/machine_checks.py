"""`ffcv doctor` on the machine: cores, kernels, GPUs, and what limits programs."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import tempfile
from pathlib import Path

import torch

from ffcv import _core
from ffcv._words import counted
from ffcv.cli.checks import Check, ok, problem, warning
from ffcv.cores import available_cores
from ffcv.errors import one_line

GIB = 1 << 30
LITTLE_DISK, LITTLE_SHARED, FEW_FILES = 2 * GIB, GIB, 1024
SLOW_KERNELS = ("v2",)
NVIDIA = (Path("/proc/driver/nvidia"), Path("/dev/nvidiactl"))
"""There where a driver is loaded."""


def machine() -> list[Check]:
    """System, cores, kernels."""
    system = f"{platform.system()} {platform.release()}, {platform.machine()}, {' '.join(platform.libc_ver())}".strip()
    checks = [ok("system", system), _cores(), _kernels()]
    checks.append(ok("libjpeg-turbo", f"{_core.libjpeg_turbo_version()} (compiled with)"))
    return checks


def _cores() -> Check:
    there, usable = os.cpu_count() or 1, available_cores()
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there
    found = f"{usable} of {counted(there, 'core')}"
    if (model := _cpu_model()) is not None:
        found += f", {model}"
    if usable == there:
        return ok("cores", found)
    by = "the affinity mask" if usable == allowed else "a control group"
    advice = f"{by} leaves no more to this process: ask for more (docker --cpus, SLURM --cpus-per-task)"
    return warning("cores", found, advice) if usable == 1 else ok("cores", f"{found}; {by} allows no more")


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def _kernels() -> Check:
    found = f"{_core.isa()}; checksums by {_core.crc32c_ways()[0]}"
    if _core.isa() in SLOW_KERNELS:
        return warning("kernels", found, "this CPU has no AVX2: expect half the speed, and the same pixels")
    return ok("kernels", found)


def gpus() -> list[Check]:
    """CUDA devices, and why there are none although the machine has some."""
    built = torch.version.cuda
    has_driver = any(path.exists() for path in NVIDIA)
    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        return [ok("GPUs", f"{', '.join(f'{d.name} ({d.total_memory / GIB:.0f} GiB)' for d in devices)}; CUDA {built}")]
    if built is None and has_driver:
        advice = "install the build of torch for your CUDA version: see pytorch.org/get-started"
        return [warning("GPUs", "there is an NVIDIA driver, but this torch is built for CPUs only", advice)]
    if built is not None and has_driver:
        advice = "see what nvidia-smi and CUDA_VISIBLE_DEVICES say; the driver may be older than this torch needs"
        return [warning("GPUs", f"there is an NVIDIA driver, but torch for CUDA {built} finds no device", advice)]
    return [ok("GPUs", "none")]


def limits() -> list[Check]:
    """Room for temporary files, shared memory, open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = f"{soft:,} (ulimit -n)" if soft != resource.RLIM_INFINITY else "unlimited"
    checks = [_temporary(), *_shared_memory()]
    if soft != resource.RLIM_INFINITY and soft < FEW_FILES:
        return [*checks, warning("open files", files, f"raise it: ulimit -n {min(65536, hard):d}")]
    return [*checks, ok("open files", files)]


def _temporary() -> Check:
    folder = tempfile.gettempdir()
    try:
        with tempfile.TemporaryFile() as file:
            file.write(b"x")
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return problem("temporary files", f"{folder}: {one_line(error)}", "name a folder with room: export TMPDIR=...")
    found = f"{folder}: {free / GIB:,.1f} GiB free"
    if free < LITTLE_DISK:
        return warning("temporary files", found, "name a folder with more room: export TMPDIR=...")
    return ok("temporary files", found)


def _shared_memory() -> list[Check]:
    """Of no use to the loader, which has threads, but to NCCL and to other loaders' processes."""
    if not Path("/dev/shm").is_dir():
        return []
    usage = shutil.disk_usage("/dev/shm")
    found = f"{usage.free / GIB:,.1f} of {usage.total / GIB:,.1f} GiB free"
    if usage.free < LITTLE_SHARED and torch.cuda.device_count() > 1:
        return [warning("shared memory", found, "NCCL needs more for several GPUs: docker run --shm-size=8g")]
    return [ok("shared memory", found)]
