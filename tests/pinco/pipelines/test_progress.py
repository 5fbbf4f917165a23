from __future__ import annotations

from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from pinco.pipelines.progress import no_progress_bars


def _enabled() -> tuple[bool, bool]:
    return diffusers_logging.is_progress_bar_enabled(), transformers_logging.is_progress_bar_enabled()


def test_bars_are_off_inside_and_as_before_outside() -> None:
    before = _enabled()
    diffusers_logging.disable_progress_bar()
    transformers_logging.enable_progress_bar()
    try:
        with no_progress_bars():
            assert _enabled() == (False, False)
        assert _enabled() == (False, True)
    finally:
        for library, enabled in zip((diffusers_logging, transformers_logging), before, strict=True):
            (library.enable_progress_bar if enabled else library.disable_progress_bar)()
