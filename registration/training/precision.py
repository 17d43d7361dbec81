"""How many bits networks compute with; positions in mm always have 32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")


def resolved(precision: str, accelerator: str) -> str:
    """The precision itself, and for ``auto`` bfloat16 where the accelerator multiplies in it, else 32 bits.

    Processors do with AVX-512 BF16, AMX or the BF16 of ARM: convolutions are about twice as fast then. Older
    ones would only imitate it, slowly.
    """
    if precision != "auto":
        return precision
    return "bf16-mixed" if _multiplies(accelerator) else "32-true"


def _multiplies(accelerator: str) -> bool:
    if accelerator in ("cuda", "gpu", "auto") and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if accelerator not in ("cpu", "auto"):
        return False
    able: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of torch do not say
    return any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
