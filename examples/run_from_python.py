"""A whole run from Python, as `pinco run` starts it: a sheet and a folder of photos in, a store out.

python examples/run_from_python.py sheet.csv photos/ out/
"""

import sys

from flows.planning import CatalogRequest, plan_run
from flows.settings import load_settings
from flows.start import start_run

if __name__ == "__main__":
    sheet, photos, store = sys.argv[1:]
    settings = load_settings(ray__threads=1)  # pinco.yaml and PINCO_... variables, with changes on top
    request = CatalogRequest(sheet, photos, store)
    print(f"{len(plan_run(request, settings).work)} images to make")
    summary = start_run(request, settings)
    print(f"run {summary.run_id}: {dict(summary.statuses)}")
    print(f"contact sheet: {summary.report}")
    if summary.error is not None:
        raise SystemExit(f"the run ended early: {summary.error}")
