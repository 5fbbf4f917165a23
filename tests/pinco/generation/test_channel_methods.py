from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pinco.catalog.sheet.channels import Channel
from pinco.generation.channel_methods import ChannelMethods
from pinco.generation.settings import ModelSettings
from pinco.generation.weights import MissingWeightsError
from pinco.pipelines.controlnet_folder import ControlNetError
from pinco.pipelines.methods.choice import MethodError
from tests.families import inpainting, sd3

PLAIN = Channel("plain", (96, 96))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    inpainting.new_fill().save_pretrained(folder / "fill")
    sd3.new_pipe().save_pretrained(folder / "sd3")
    inpainting.new_sd3_controlnet().save_pretrained(folder / "sd3-controlnet")
    return folder


def test_the_weights_decide_where_nothing_is_said(toy: Path, folder: Path) -> None:
    backbone = str(toy / "backbone")
    settings = {
        "pinco": ModelSettings(backbone=backbone, adapter=str(toy / "adapter")),
        "blend": ModelSettings(backbone=backbone),
        "fill": ModelSettings(backbone=str(folder / "fill")),
        "controlnet": ModelSettings(backbone=str(folder / "sd3"), controlnet=str(folder / "sd3-controlnet")),
    }
    assert {name: ChannelMethods(given).default for name, given in settings.items()} == {
        name: name for name in settings
    }
    whole = ModelSettings(backbone=str(toy))  # its adapter lies beside its backbone
    assert ChannelMethods(whole).of(PLAIN) == "pinco"


def test_a_channel_goes_before_the_settings(toy: Path) -> None:
    methods = ChannelMethods(ModelSettings(backbone=str(toy)))
    assert methods.of(Channel("hero", (96, 96), method="blend")) == "blend"


def test_what_is_not_possible_names_the_channel(toy: Path, folder: Path) -> None:
    methods = ChannelMethods(ModelSettings(backbone=str(toy / "backbone")))
    with pytest.raises(MethodError, match=r"^channel 'hero': the method pinco needs a Pinco adapter .*--adapter"):
        methods.of(Channel("hero", (96, 96), method="pinco"))
    wrong = ChannelMethods(ModelSettings(backbone=str(folder / "fill"), method="blend"))
    with pytest.raises(MethodError, match=r"^the method blend is not possible with a FluxFillPipeline"):
        wrong.of(PLAIN)
    assert wrong.of(Channel("hero", (96, 96), method="fill")) == "fill"


def test_a_cache_that_a_controlnet_cannot_have_is_said_while_planning(folder: Path) -> None:
    weights = {"backbone": str(folder / "sd3"), "controlnet": str(folder / "sd3-controlnet")}
    methods = ChannelMethods(ModelSettings(**weights, cache="dbcache"))
    with pytest.raises(MethodError, match=r"controlnet is not possible with model\.cache: dbcache"):
        methods.of(PLAIN)
    assert methods.of(Channel("hero", (96, 96), method="blend")) == "blend"


def test_the_advice_is_for_those_whose_images_are_blended_for_lack_of_weights(toy: Path) -> None:
    backbone, blend = str(toy / "backbone"), Channel("hero", (96, 96), method="blend")
    lacking = ChannelMethods(ModelSettings(backbone=backbone))
    assert "The method is blend" in str(lacking.advice([PLAIN, blend]))
    assert lacking.advice([blend]) is None  # asked for
    assert ChannelMethods(ModelSettings(backbone=backbone, method="blend")).advice([PLAIN]) is None
    assert ChannelMethods(ModelSettings(backbone=str(toy))).advice([PLAIN, blend]) is None
    with pytest.raises(MethodError, match="channel 'hero'"):
        lacking.advice([PLAIN, Channel("hero", (96, 96), method="fill")])


def test_missing_and_foreign_weights_are_said(toy: Path, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match="no ControlNet at"):
        ChannelMethods(ModelSettings(backbone=str(toy), controlnet=str(tmp_path / "nowhere")))
    with pytest.raises(ControlNetError, match="SD3ControlNetModel"):
        ChannelMethods(ModelSettings(backbone=str(toy), controlnet=str(folder / "sd3-controlnet")))


def test_planning_with_them_needs_no_torch(folder: Path) -> None:
    program = (
        "import sys\n"
        "from pinco.generation.channel_methods import ChannelMethods\n"
        "from pinco.generation.settings import ModelSettings\n"
        "print(ChannelMethods(ModelSettings(backbone=sys.argv[1], controlnet=sys.argv[2])).default)\n"
        "print('torch' in sys.modules)\n"
    )
    words = [sys.executable, "-c", program, str(folder / "sd3"), str(folder / "sd3-controlnet")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["controlnet", "False"], done.stderr
