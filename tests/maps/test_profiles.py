"""Colour profiles that do not fit their picture."""

import struct

from flux_demo.maps.photo import open_photo
from tests.maps.test_photo import encoded
from tests.maps.test_photo_doors import difference, in_linear_light


def profile_of_greys():
    """The least that a profile of greys has: white, and a straight curve."""
    d50 = struct.pack(">3i", 63190, 65536, 54061)
    white, curve = b"XYZ \0\0\0\0" + d50, b"curv" + bytes(8)
    head = struct.pack(">I4sI4s4s4s12s4s28s12s48x", 188, b"", 0x2100000, b"mntr", b"GRAY", b"XYZ ", b"", b"acsp", b"", d50)
    return head + struct.pack(">I4sII4sII", 2, b"wtpt", 156, 20, b"kTRC", 176, 12) + white + curve


def test_a_profile_of_greys_counts_for_greys_alone(photo):
    grey, profile = in_linear_light(photo.convert("L")), profile_of_greys()
    assert difference(open_photo(encoded(grey, "PNG", icc_profile=profile)), photo.convert("L").convert("RGB")) < 2.5
    assert open_photo(encoded(photo, "PNG", icc_profile=profile)).tobytes() == photo.tobytes()  # as browsers show it
    assert open_photo(encoded(photo.convert("RGBA"), "PNG", icc_profile=profile)).tobytes() == photo.tobytes()
