"""`graphkv doctor`: what this machine has, which kernels can run, and why not the others."""

from __future__ import annotations

from typing import Any

import typer

from graphkv.cli.common import Json, print_json, working

EXTRAS = {"viz": "matplotlib", "langchain": "langchain_core", "serve": "fastapi", "flash": "flash_attn", "dev": "pytest"}
"""Optional extras, each with the module that shows it is installed."""


def doctor(as_json: Json = False) -> None:
    """Show what this machine has, which attention kernels can run on it, and why not the others.

    [bold]A session[/bold]

    \b
    $ graphkv doctor
    machine
      system         Linux 6.18.44 (x86_64)
      cores          2
      memory gib     23.5
      gpu            none
      bfloat16       supported, perhaps without hardware for it
    ...
    kernels
      dense          yes
      gather         yes (default here)
      flex           yes
      varlen         no  flash-attn is not installed; it needs CUDA: pip install 'graphkv\\[flash]'
    """
    with working("looking at this machine"):
        found = inspect_machine()
    if as_json:
        print_json(found)
        return
    for title in ("machine", "software", "embedded model", "default store"):
        typer.secho(title, bold=True)
        for key, value in found[title.replace(" ", "_")].items():
            typer.echo(f"  {key.replace('_', ' '):<14} {_plain(value)}")
    typer.secho("kernels", bold=True)
    for name, reason in found["kernels"].items():
        state = typer.style("yes", fg=typer.colors.GREEN) if reason is None else typer.style("no ", fg=typer.colors.YELLOW)
        typer.echo(f"  {name:<14} {state} {'(default here)' if name == found['default_kernel'] else reason or ''}".rstrip())
    typer.secho("extras", bold=True)
    for name, there in found["extras"].items():
        typer.echo(f"  {name:<14} {'installed' if there else f'not installed: pip install graphkv[{name}]'}")


def inspect_machine() -> dict[str, Any]:
    """Everything that `graphkv doctor` shows, as plain values."""
    import os
    import platform
    from importlib.metadata import version
    from importlib.util import find_spec

    import torch

    from graphkv.model import EMBEDDED
    from graphkv.store.place import DEFAULT_SIZE, SIZE, default_place
    from graphkv_kernels import available_kernels, default_kernel

    cuda = torch.cuda.is_available()
    gpus = [f"{torch.cuda.get_device_name(i)}, {torch.cuda.get_device_properties(i).total_memory / 2**30:.0f} GiB" for i in range(torch.cuda.device_count())] if cuda else []
    weights = EMBEDDED / "model.safetensors"
    return {
        "machine": {
            "system": f"{platform.system()} {platform.release()} ({platform.machine()})",
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "memory_gib": _memory_gib(),
            "gpu": gpus or None,
            "bfloat16": _bfloat16(cuda),
        },
        "software": {
            "graphkv": version("graphkv"),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": version("transformers"),
            "torch_threads": torch.get_num_threads(),
        },
        "embedded_model": {"present": weights.is_file(), "size_mib": round(weights.stat().st_size / 2**20, 1) if weights.is_file() else None},
        "default_store": {"place": default_place(), "budget": os.environ.get(SIZE) or DEFAULT_SIZE},
        "kernels": available_kernels(),
        "default_kernel": default_kernel("cuda" if cuda else "cpu"),
        "extras": {name: find_spec(module) is not None for name, module in EXTRAS.items()},
    }


def _bfloat16(cuda: bool) -> str:
    """How fast 16-bit floats can be expected to be."""
    import torch

    if cuda:
        return "on the GPU" if torch.cuda.is_bf16_supported() else "emulated on the GPU"
    # The names differ between torch versions; no answer is better than a wrong one.
    for name, text in (("_is_amx_tile_supported", "in hardware (AMX)"), ("_is_avx512_bf16_supported", "in hardware (AVX-512)")):
        probe = getattr(torch.cpu, name, None)
        if probe is not None and probe():
            return text
    return "supported, perhaps without hardware for it"


def _memory_gib() -> float | None:
    import os

    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)


def _plain(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
