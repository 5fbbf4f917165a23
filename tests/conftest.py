"""What holds for every test: no home folder, no account, no network name of the person who runs them."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

from hypothesis import settings

# Set before anything imports torch, Ray, Prefect or boto3; worker processes inherit it.
_PREFECT_HOME = tempfile.mkdtemp(prefix="pinco-test-prefect-")
atexit.register(shutil.rmtree, _PREFECT_HOME, ignore_errors=True)

for _name in [name for name in os.environ if name.startswith(("PINCO_", "AWS_"))]:
    del os.environ[_name]

os.environ.update(
    AWS_ACCESS_KEY_ID="test",
    AWS_SECRET_ACCESS_KEY="test",
    AWS_DEFAULT_REGION="us-east-1",
    AWS_EC2_METADATA_DISABLED="true",
    AWS_CONFIG_FILE=os.devnull,
    AWS_SHARED_CREDENTIALS_FILE=os.devnull,
    DO_NOT_TRACK="1",
    HF_HUB_OFFLINE="1",
    OMP_WAIT_POLICY="passive",
    PREFECT_HOME=_PREFECT_HOME,
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="180",
    RAY_USAGE_STATS_ENABLED="0",
)

# The same examples on every machine, and no example fails for being slow on a busy one.
settings.register_profile("pinco", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("pinco")
