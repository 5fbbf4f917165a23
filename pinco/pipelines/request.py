"""What is asked of a pipeline for one image."""

from __future__ import annotations

from dataclasses import dataclass

from pinco.knobs import Knobs, whole_number

LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class GenerationRequest(Knobs):
    """One image of a canvas. `GenerationDefaults.request` fills in a backbone's usual settings.

    Attributes:
        prompt: What the image shall show.
        negative: What it shall not show, where `true_cfg` is above 1; None stands for the empty prompt.
        seed: 0 to 2^63 - 1; decides the noise, whatever the device.

    Raises:
        TypeError: The seed or the number of steps is no whole number.
        ValueError: A value is out of its range.
    """

    prompt: str
    negative: str | None
    seed: int

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number("seed", self.seed)
        if not 0 <= self.seed <= LARGEST_SEED:
            raise ValueError(f"seed must lie between 0 and {LARGEST_SEED}, not {self.seed}")
