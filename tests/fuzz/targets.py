"""All targets. A new reader of outside data gets a `Target` in a module of its own, and a place here."""

from __future__ import annotations

from tests.fuzz.configuration import SETTINGS
from tests.fuzz.manifest import MANIFEST
from tests.fuzz.photos import CUTOUT, DECODER
from tests.fuzz.sheets import SHEET, TEMPLATE
from tests.fuzz.tables import CACHE, CATALOG, SNAPSHOT

TARGETS = (DECODER, CUTOUT, SHEET, TEMPLATE, SETTINGS, CATALOG, SNAPSHOT, CACHE, MANIFEST)
