"""Innermost loops are found in assembly, and what they use counted."""

from benchmarks.registers import LOOPS, Loop, innermost_loops, markdown

ARM = """
.LBB0_1:
    mov x0, x1
.LBB0_2:
    ldr q0, [x0]
    str q1, [sp, #16]
    fmla v1.4s, v0.4s, v2.s[0]
    fmla v2.4s, v0.4s, v2.s[1]
    fmla v3.4s, v0.4s, v2.s[2]
    fmla v4.4s, v0.4s, v2.s[3]
    fmla v5.4s, v0.4s, v3.s[0]
    fmla v6.4s, v0.4s, v3.s[1]
    b.ne .LBB0_2
    b .LBB0_1
.LBB0_3:
    add x0, x0, x1
    cbnz x0, .LBB0_3
"""


def test_the_inner_of_two_loops_counts_and_one_without_products_does_not():
    assert innermost_loops(ARM) == [Loop(multiply_adds=6, instructions=9, on_stack=1)]


def test_intels_words_for_the_same():
    products = "\n".join(f"vfmadd231ps (%rdi), %ymm0, %ymm{n}" for n in range(1, 7))
    assert innermost_loops(f".L1:\n{products}\nvmovups %ymm1, 8(%rsp)\njne .L1\n") == [
        Loop(multiply_adds=6, instructions=8, on_stack=1)
    ]


def test_a_row_for_each_function():
    loops = {name: [Loop(24, 38, 0), Loop(24, 38, 0), Loop(40, 593, 152)] for name in LOOPS}
    table = markdown({"M1": loops | {"conv_direct.convolve": []}})
    assert "| `conv_direct.convolve`: convolution | – |" in table
    assert "| `conv_spatial._convolve`: over the band axis | 24 / 38, 40 / 593 + 152 |" in table
