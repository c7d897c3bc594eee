"""The border: what is sent arrives, and whatever else arrives is a WireError and nothing worse."""

import json
import math
import random
import struct
import time

import numpy as np
import pytest
import torch

from autograder.sandbox import wire
from autograder.sandbox.wire import WireError


def round_trip(value):
    return wire.decode(wire.encode({"x": value}))["x"]


def frame(text, packed=b""):
    text = text.encode() if isinstance(text, str) else text
    return struct.pack(">II", len(text), len(packed)) + text + packed


def packed(header, data=b""):
    """Safetensors bytes with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype="F64", shape=(1,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


# What is sent arrives


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        -1,
        2**63 - 1,
        -(2**63),
        2**64 - 1,
        0.1,
        -0.0,
        5e-324,
        1.7976931348623157e308,
        math.inf,
        -math.inf,
        "",
        "happy",
        "naïve 😀 \x00 \u2028",
        [],
        {},
        [[], [1, [2.5, "a", None]]],
        {"a": {"b": [True, {"c": 1}]}, "": 0},
        {"$tensor": "0"},
        {"$tensor": [1]},
        {"$odd": "x", "$$tensor": {"$$$": 1}},
        {"x": 1, "$raised": "ValueError"},
    ],
)
def test_plain_values_arrive_as_they_are(value):
    arrived = round_trip(value)
    assert arrived == value and type(arrived) is type(value)
    assert round_trip(arrived) == value  # and a second crossing changes nothing


def test_nan_and_the_sign_of_zero_arrive():
    assert math.isnan(round_trip(math.nan))
    assert math.copysign(1, round_trip(-0.0)) == -1


DTYPES = ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64", "bool"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0), (0, 3), (2, 3, 4)])
def test_arrays_arrive_with_dtype_shape_and_every_bit(dtype, shape):
    size = math.prod(shape)
    array = np.arange(1, size + 1).reshape(shape).astype(dtype)
    for arrived in (round_trip(array), round_trip(torch.from_numpy(array.copy()))):
        assert isinstance(arrived, np.ndarray)
        assert arrived.dtype == array.dtype and arrived.shape == shape
        assert arrived.tobytes() == array.tobytes()


def test_every_float_arrives_to_the_bit():
    values = np.array([math.nan, math.inf, -math.inf, -0.0, 5e-324, 0.1, 1.7976931348623157e308])
    assert round_trip(values).tobytes() == values.tobytes()
    assert round_trip(values.tolist()[1:]) == values.tolist()[1:]


@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(12.0)[::-2],
        np.arange(6.0).reshape(2, 3).T,
        np.array([1.5, -2.0], dtype=">f8"),
        np.array([1, 2**40], dtype=">i8"),
        np.broadcast_to(np.arange(3.0), (4, 3)),
    ],
)
def test_memory_layout_and_byte_order_do_not_matter(array):
    assert np.array_equal(round_trip(array), array)


def test_tensors_leave_graph_views_and_lazy_signs_behind():
    leaf = torch.arange(6.0, dtype=torch.float64).reshape(2, 3).requires_grad_()
    assert np.array_equal(round_trip((2 * leaf).T), 2 * np.arange(6.0).reshape(2, 3).T)
    assert np.array_equal(round_trip(torch.nn.Parameter(torch.ones(2))), np.ones(2))
    assert np.array_equal(round_trip(torch.tensor([1 + 2j]).conj().imag), np.array([-2.0]))
    assert np.array_equal(round_trip(torch.tensor(3.0).expand(2, 2)), np.full((2, 2), 3.0))


def test_numpy_scalars_strings_and_tuples_become_plain():
    assert round_trip(np.float64(0.1)) == 0.1 and type(round_trip(np.float64(0.1))) is float
    assert type(round_trip(np.float32(0.5))) is float and type(round_trip(np.int32(3))) is int
    assert round_trip(np.bool_(True)) is True
    assert type(round_trip(np.random.default_rng(0).choice(["sad", "happy"]))) is str
    assert round_trip((1, (2, 3))) == [1, [2, 3]]
    assert round_trip({1: "a"}) == {"1": "a"}


@pytest.mark.parametrize(
    "value, words",
    [
        (torch.ones(2, dtype=torch.complex64), "complex64"),
        (np.ones(2, dtype=complex), "complex128"),
        (torch.ones(2, dtype=torch.bfloat16), "bfloat16"),
        (torch.eye(2).to_sparse(), "sparse"),
        (torch.ones(2, device="meta"), "meta"),
        (torch.zeros(1).expand(10**7, 10**5), "larger than 4 MiB"),
        (np.broadcast_to(0.0, (10**7, 10**5)), "larger than 64 MiB"),
        (np.array(["a"]), "dtype <U1"),
        (np.array([{}]), "dtype object"),
        (object(), "an object of type object"),
        (torch.nn.Linear(1, 1), "an object of type Linear"),
        (lambda: 0, "an object of type function"),
        (1j, "an object of type complex"),
        (b"bytes", "an object of type bytes"),
        ({1, 2}, "an object of type set"),
        (2**64, "an integer beyond 64 bits"),
        (-(2**63) - 1, "an integer beyond 64 bits"),
    ],
)
def test_what_cannot_be_carried_is_described(value, words):
    arrived = round_trip(value)
    assert set(arrived) == {"$odd"} and words in arrived["$odd"]


@pytest.mark.filterwarnings("ignore")
def test_nested_tensors_are_described():
    assert round_trip(torch.nested.nested_tensor([torch.ones(1), torch.ones(2)])) == {"$odd": "a nested tensor"}


def test_what_holds_itself_is_cut():
    circle = []
    circle.append(circle)
    arrived, depth = round_trip(circle), 0
    while isinstance(arrived, list):
        (arrived,), depth = arrived, depth + 1
    assert arrived == {"$odd": "something nested too deeply"} and depth <= wire.MAX_DEPTH


# Streams


def test_frames_arrive_in_order_and_the_rest_is_left():
    values = [{"case": i, "x": np.full(i, i)} for i in range(5)]
    stream = b"".join(map(wire.encode, values))
    found = wire.frames(stream)
    assert [f["case"] for f in found] == list(range(5)) and all((f["x"] == f["case"]).all() for f in found)
    first, rest = wire.take(stream)
    assert first["case"] == 0 and rest == stream[len(wire.encode(values[0])) :]
    assert wire.frames(b"") == []


def test_a_stream_cut_anywhere_gives_its_whole_frames():
    parts = [wire.encode({"case": i, "x": np.ones(i)}) for i in range(3)]
    stream, ends = b"".join(parts), [sum(map(len, parts[: i + 1])) for i in range(3)]
    for cut in range(len(stream)):
        assert [f["case"] for f in wire.frames(stream[:cut])] == [i for i in range(3) if ends[i] <= cut]


def test_a_bad_frame_ends_the_stream():
    good = wire.encode({"case": 0})
    assert wire.frames(good + frame("[]") + good) == [{"case": 0}]


def test_a_flood_of_tiny_frames_is_read_in_time_that_grows_with_its_length():
    flood = frame("{}") * (wire.MAX_BYTES // len(frame("{}")))
    start = time.perf_counter()
    found = wire.frames(flood)
    # 10,000 small frames take about 0.05 s; copying the rest of the stream for each of 400,000 would take minutes.
    assert len(found) == wire.MAX_FRAMES and time.perf_counter() - start < 5


# What is not a frame


@pytest.mark.parametrize("cut", range(len(wire.encode({"x": np.ones(2), "y": "z"}))))
def test_a_frame_cut_short_is_a_wire_error(cut):
    with pytest.raises(WireError, match="cut short"):
        wire.decode(wire.encode({"x": np.ones(2), "y": "z"})[:cut])


def test_bytes_after_a_frame_are_a_wire_error():
    with pytest.raises(WireError, match="bytes after the frame"):
        wire.decode(wire.encode({"x": 1}) + b"\x00")


HOSTILE = {
    "not JSON": frame("{"),
    "nothing": frame(""),
    "not UTF-8": frame(b'{"\xff\xfe": 1}'),
    "a list": frame("[1]"),
    "a number": frame("1"),
    "null": frame("null"),
    "a tensor for a frame": frame('{"$tensor": "0"}', packed({"0": tensor()}, b"\0" * 8)),
    "deep JSON": frame('{"x": ' + "[" * 100_000 + "]" * 100_000 + "}"),
    "a little too deep": frame('{"x": ' + "[" * 40 + "]" * 40 + "}"),
    "a huge integer": frame('{"x": ' + "9" * 5000 + "}"),
    "an integer of 65 bits": frame('{"x": 18446744073709551616}'),
    "a tensor that is not there": frame('{"x": {"$tensor": "0"}}'),
    "another tensor than is there": frame('{"x": {"$tensor": "1"}}', packed({"0": tensor()}, b"\0" * 8)),
    "a tensor named by a number": frame('{"x": {"$tensor": 0}}', packed({"0": tensor()}, b"\0" * 8)),
    "a tensor named by a list": frame('{"x": {"$tensor": []}}', packed({"0": tensor()}, b"\0" * 8)),
    "one byte of tensors": frame("{}", b"\0"),
    "seven bytes of tensors": frame("{}", b"\0" * 7),
    "an empty header": frame("{}", b"\0" * 8),
    "a header longer than the frame": frame("{}", struct.pack("<Q", 2**63) + b"{}"),
    "a header that is no JSON": frame("{}", packed(b"{{")),
    "a header that is a list": frame("{}", packed([])),
    "a deep header": frame("{}", packed(b"[" * 100_000)),
    "a tensor that is a string": frame("{}", packed({"0": "F64"})),
    "metadata": frame("{}", packed({"__metadata__": {"a": "b"}})),
    "no dtype": frame("{}", packed({"0": {"shape": [1], "data_offsets": [0, 8]}}, b"\0" * 8)),
    "an unknown dtype": frame("{}", packed({"0": tensor("F65")}, b"\0" * 8)),
    "a dtype not carried": frame("{}", packed({"0": tensor("BF16", offsets=(0, 2))}, b"\0" * 2)),
    "a dtype that is a list": frame("{}", packed({"0": tensor(["F64"])}, b"\0" * 8)),
    "no shape": frame("{}", packed({"0": {"dtype": "F64", "data_offsets": [0, 8]}}, b"\0" * 8)),
    "a negative shape": frame("{}", packed({"0": tensor(shape=(-1,))}, b"\0" * 8)),
    "a shape of floats": frame("{}", packed({"0": tensor(shape=(1.0,))}, b"\0" * 8)),
    "a shape larger than the data": frame("{}", packed({"0": tensor(shape=(2,))}, b"\0" * 8)),
    "a shape that overflows": frame("{}", packed({"0": tensor(shape=(2**62, 2**62))}, b"\0" * 8)),
    "a shape of 70 ones": frame("{}", packed({"0": tensor(shape=(1,) * 70)}, b"\0" * 8)),
    "offsets past the end": frame("{}", packed({"0": tensor(offsets=(8, 16))}, b"\0" * 8)),
    "offsets backwards": frame("{}", packed({"0": tensor(offsets=(8, 0))}, b"\0" * 8)),
    "negative offsets": frame("{}", packed({"0": tensor(offsets=(-8, 0))}, b"\0" * 8)),
    "overlapping tensors": frame("{}", packed({"0": tensor(), "1": tensor()}, b"\0" * 8)),
    "data that belongs to no tensor": frame("{}", packed({"0": tensor()}, b"\0" * 16)),
    "lengths of 4 GiB": struct.pack(">II", 2**32 - 1, 2**32 - 1) + b"{}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_frame_is_a_wire_error(name):
    for read in (wire.decode, wire.take):
        with pytest.raises(WireError):
            read(HOSTILE[name])
    assert wire.frames(HOSTILE[name]) == []


def test_no_damage_raises_anything_but_a_wire_error():
    """Thousands of frames with bytes changed, cut out and put in: each is read or refused as a WireError."""
    draw = random.Random(0)
    whole = wire.encode({"case": 1, "outputs": {"a": np.arange(4.0), "b": [1, {"c": None}], "d": np.array([True, False])}})
    read = refused = 0
    for _ in range(5000):
        damaged = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(damaged))
            action = draw.randrange(3)
            if action == 0:
                damaged[at] = draw.randrange(256)
            elif action == 1:
                del damaged[at : at + draw.randint(1, 8)]
            else:
                damaged[at:at] = draw.randbytes(draw.randint(1, 8))
        try:
            assert isinstance(wire.decode(bytes(damaged)), dict)
            read += 1
        except WireError:
            refused += 1
    assert read > 50 and refused > 1000  # some damage is inside numbers and texts and cannot be seen


def test_noise_inside_a_well_formed_head_raises_nothing_but_a_wire_error():
    draw = random.Random(1)
    for _ in range(2000):
        text, rest = draw.randbytes(draw.randint(0, 40)), draw.randbytes(draw.randint(0, 40))
        for hostile in (frame(text, rest), frame("{}", rest), frame("{}", packed(text, rest))):
            try:
                wire.decode(hostile)
            except WireError:
                pass


# Caps


def test_a_frame_may_not_be_larger_than_its_cap():
    heads = struct.pack(">II", wire.MAX_FRAME, 0), struct.pack(">II", 2, wire.MAX_FRAME - 9)
    for head in heads:
        with pytest.raises(WireError, match="larger than 64 MiB"):
            wire.decode(head + b"{}")
    with pytest.raises(WireError, match="cut short"):
        wire.decode(struct.pack(">II", 2, wire.MAX_FRAME - 10) + b"{}")


@pytest.mark.parametrize("count, fits", [(wire.MAX_TENSORS, True), (wire.MAX_TENSORS + 1, False)])
def test_tensors_are_counted(count, fits):
    many = wire.encode({"x": [np.zeros(1, np.uint8)] * count})
    if fits:
        assert len(wire.decode(many)["x"]) == count
    else:
        with pytest.raises(WireError, match="too many tensors"):
            wire.decode(many)


def test_text_that_no_terminal_takes_arrives_as_question_marks():
    arrived = wire.decode(frame('{"\\ud800": ["a\\udfffb", "\\ud83d\\ude00"]}'))
    assert arrived == {"?": ["a?b", "😀"]}
    json.dumps(arrived, ensure_ascii=False).encode()


def test_two_names_for_one_tensor_cost_nothing():
    several = frame('{"x": [' + ",".join(['{"$tensor": "0"}'] * 1000) + "]}", packed({"0": tensor()}, b"\0" * 8))
    arrived = wire.decode(several)["x"]
    assert len(arrived) == 1000 and all(np.shares_memory(a, arrived[0]) for a in arrived)
