"""What fits where: arithmetic only, from the memory that is free to a plan with its reason."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class Plan:
    """Where each part of FLUX is while a picture is made."""

    name: str
    modes: int  # how many modes' transformers stay on the device
    sentence: str  # what is where and why: on the page and in recipes


def plan_for_cpu() -> Plan:
    """For weights so small that nothing has to be weighed up."""
    return Plan("cpu", modes=3, sentence="All three modes stay in main memory, float32, on the CPU.")
