import gzip
import zlib

from hypothesis import given
from hypothesis import strategies as st

from telemetron.exposition.piece import Member, Piece


@given(st.lists(st.binary(max_size=200) | st.binary(max_size=9).map(lambda one: one * 9_999)))
def test_joined_pieces_are_one_gzip_member(texts):
    member = Member()
    for text in texts:
        member.add(Piece(text).packed)
    body = member.end()
    reader = zlib.decompressobj(wbits=31)
    assert reader.decompress(body) == b"".join(texts)
    assert (reader.eof, reader.unused_data) == (True, b"")
    assert gzip.decompress(body) == b"".join(texts)  # it checks the checksum and the length


def test_a_piece_is_compressed_once():
    piece = Piece(b"a" * 10_000)
    assert piece.packed is piece.packed
    assert len(piece.packed.data) < 100
