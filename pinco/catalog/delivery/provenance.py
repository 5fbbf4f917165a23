"""What a finished image says about its origin: the XMP packet that marks it as partly made by a model.

The mark is IPTC's `DigitalSourceType` (IPTC Photo Metadata Standard 2023.1, property of the extension schema), with a
term of the Digital Source Type NewsCodes; shops and platforms read it. A catalog image is a photographed product on a
generated background: a composite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from xml.sax.saxutils import escape

SourceType = Literal["compositeWithTrainedAlgorithmicMedia", "trainedAlgorithmicMedia"]

NEWSCODES = "http://cv.iptc.org/newscodes/digitalsourcetype/"

_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
   <Iptc4xmpExt:DigitalSourceType>{source_type}</Iptc4xmpExt:DigitalSourceType>
   <dc:identifier>{identifier}</dc:identifier>
   <xmp:CreatorTool>Pinco</xmp:CreatorTool>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""


@dataclass(frozen=True)
class Provenance:
    """Where an image comes from. It has no date and no host, so that the same generation has the same bytes.

    Attributes:
        generation_id: Finds the image's manifest row, and with it everything else.
        source_type: Term of the NewsCodes; `trainedAlgorithmicMedia` is for images without a photographed part.
    """

    generation_id: str
    source_type: SourceType = "compositeWithTrainedAlgorithmicMedia"

    def xmp(self) -> bytes:
        """The XMP packet, UTF-8. The generation id is its `dc:identifier`."""
        return _PACKET.format(source_type=NEWSCODES + self.source_type, identifier=escape(self.generation_id)).encode()
