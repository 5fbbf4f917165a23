"""An adapter's processors in place on a backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pinco.adapter.families import Family
from pinco.adapter.families.base import AttachedAdapter
from pinco.adapter.layer import SubjectLayer


class Attachment:
    """Puts processors onto a transformer, watches over them, and takes them off again.

    No `nn.Module`: held by the adapter, it must not make the backbone a part of the adapter's weights.
    """

    def __init__(
        self, family: Family, transformer: Any, layers: Mapping[int, SubjectLayer], adapter: AttachedAdapter
    ) -> None:
        """Enter the attention layers `layers` of `transformer`.

        Raises `ValueError` where a foreign processor is in place; then nothing has been changed.
        """
        self.family = family
        self.transformer = transformer
        attentions = family.attentions(transformer)
        self._attentions: dict[int, Any] = {number: attentions[number] for number in layers}
        self._originals = {number: attention.processor for number, attention in self._attentions.items()}
        processors = {
            number: family.processor(number, layer, adapter, self._originals[number])
            for number, layer in layers.items()
        }
        for number, processor in processors.items():
            self._attentions[number].set_processor(processor)
        self._hook = transformer.register_forward_pre_hook(self._check_call, with_kwargs=True)

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        """A copy of an adapter (an average of its weights, say) is attached to nothing."""

    def undo(self) -> None:
        """Put the original processor objects back."""
        for number, original in self._originals.items():
            self._attentions[number].set_processor(original)
        self._hook.remove()

    def _check_call(self, transformer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before each forward: the subject must fit the latents, and the processors must still be in place.

        Otherwise diffusers would drop the subject with a line in the log, and the image would lose its product.
        """
        subject = (kwargs.get("joint_attention_kwargs") or {}).get("subject")
        if subject is None:
            return
        lost = [n for n, attention in self._attentions.items() if not self.family.entered(attention.processor)]
        if lost:
            raise RuntimeError(
                f"the attention processors of layer(s) {lost} were replaced while a Pinco adapter was attached "
                "(load_ip_adapter and set_attn_processor do that); detach the adapter before, attach it after"
            )
        hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        if hidden.shape[1] != subject.latent_tokens:
            rows, columns = subject.grid
            raise ValueError(
                f"the subject was encoded for {rows} x {columns} tokens, the latents have {hidden.shape[1]}: "
                "encode the subject at the size of the image"
            )
