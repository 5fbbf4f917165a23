from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from pinco.catalog.delivery.provenance import Provenance

SOURCE_TYPE = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
IDENTIFIER = "{http://purl.org/dc/elements/1.1/}identifier"


def description(xmp: bytes) -> ElementTree.Element:
    found = ElementTree.fromstring(xmp).find(".//{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    assert found is not None
    return found


def test_the_mark_is_the_full_newscodes_uri() -> None:
    marked = description(Provenance("ab12").xmp())
    assert marked.findtext(SOURCE_TYPE) == (
        "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
    )
    assert marked.findtext(IDENTIFIER) == "ab12"


def test_a_wholly_generated_image_can_be_marked_as_such() -> None:
    marked = description(Provenance("ab12", "trainedAlgorithmicMedia").xmp())
    assert marked.findtext(SOURCE_TYPE) == "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


def test_the_packet_is_wrapped_as_readers_look_for_it() -> None:
    xmp = Provenance("ab12").xmp().decode()
    assert xmp.startswith('<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>')
    assert xmp.endswith('<?xpacket end="r"?>')


@given(st.text(st.characters(min_codepoint=33, max_codepoint=0xD7FF), min_size=1, max_size=40))
def test_any_id_is_read_back(generation_id: str) -> None:
    assert description(Provenance(generation_id).xmp()).findtext(IDENTIFIER) == generation_id


def test_the_same_provenance_has_the_same_bytes() -> None:
    assert Provenance("ab12").xmp() == Provenance("ab12").xmp() != Provenance("ab13").xmp()
