"""The method of each channel, chosen by the weights that the settings name. Starts without torch."""

from __future__ import annotations

from collections.abc import Iterable

from pinco.catalog.sheet.channels import Channel
from pinco.generation.settings import ModelSettings
from pinco.generation.weights import find_weights
from pinco.pipelines.controlnet_folder import ControlNetFolder
from pinco.pipelines.folder import BackboneFolder
from pinco.pipelines.methods.choice import Given, MethodError, advice, choose


class ChannelMethods:
    """What the settings' weights can do, asked by channel."""

    def __init__(self, settings: ModelSettings) -> None:
        """Look at the folders; no weights are loaded.

        Raises:
            MissingWeightsError: A folder of weights is not there.
            UnknownPipelineError: The backbone's folder holds something that Pinco cannot run.
            ControlNetError: The ControlNet cannot be used with the backbone.
            PickledWeightsError: Weights are stored as a pickle.
        """
        weights = find_weights(settings)
        backbone = BackboneFolder(weights.backbone)
        if weights.controlnet is not None:
            ControlNetFolder(weights.controlnet, backbone)
        self._asked = settings.method
        self._given = Given(
            backbone.family,
            backbone.pipeline,
            weights.adapter is not None,
            weights.controlnet is not None,
            settings.choice.cache or "none",
        )

    @property
    def default(self) -> str:
        """The method of a channel that names none.

        Raises:
            MethodError: The method that the settings name is not possible with their weights.
        """
        return choose(self._asked, self._given)

    def of(self, channel: Channel) -> str:
        """The method of a channel: its own, else the settings'.

        Raises:
            MethodError: It is not possible with these weights; the message names the channel and the way out.
        """
        if channel.method is None:
            return self.default
        try:
            return choose(channel.method, self._given)
        except MethodError as error:
            raise MethodError(f"channel {channel.name!r}: {error}") from error

    def advice(self, channels: Iterable[Channel]) -> str | None:
        """One line for people, where a channel's images are made by blending because nothing better is there.

        Raises:
            MethodError: As `of`; every channel is checked.
        """
        methods = {channel.method or self._asked: self.of(channel) for channel in channels}
        return advice(self._given) if methods.get("auto") == "blend" else None
