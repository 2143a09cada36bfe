"""The register tile: a small matrix that lives in the CPU's SIMD registers.

A tile has `rows` rows, each of `vectors` SIMD vectors of `lanes` elements. The heart of every
matrix product in this package is one line, repeated for each k::

    tile = rank1(tile, a, ao, a_step, b, bo)   # tile[i, :] += a[ao + i * a_step] * b[bo : ...]

that is, a product of matrices written as a sum of outer products. All `rows * vectors` vectors stay
in registers until the sum is complete, so each step reads only `rows + vectors` operands from
memory for `rows * vectors` fused multiply-adds.

All that kernels do with these registers is here, as LLVM's instructions; what is built of it is
plain Numba code. (`fma`, `memory`, `calls`, `team`, `vectormath` and `denormals` have some lines of
LLVM each, for numbers, addresses, atomics and the CPU's modes.)
Arrays are flat, C-contiguous and addressed by element offsets; nothing is bounds-checked.
"""

import functools
import math

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from fastnn.kernels.noise import GOLDEN_32, ROUNDS
from fastnn.runtime.cpu import N_REGISTERS, VECTOR_BYTES
from fastnn.runtime.jit import inner

# Rows and vectors of a tile, by the width and the number of registers. All but a few registers are
# accumulators. Rows must be a power of two (transposed stores), and a panel a multiple of them and
# of a cell, in both dtypes. Chosen by benchmarks/tile_shapes.py, but for ARM: no machine was there.
TILE_ROWS, TILE_VECTORS = {(64, 32): (8, 3), (32, 16): (4, 3), (16, 16): (4, 2), (16, 32): (4, 4)}[
    VECTOR_BYTES, N_REGISTERS
]
# A tile of one vector has twice the rows where it can: with fewer accumulators, each sum would wait
# for its last multiply-add.
NARROW_ROWS = 2 * TILE_ROWS

# A sum over a row is kept in as many partial sums as GROUP_BYTES hold numbers, which are added in a
# fixed order: the same bits whatever the width of the CPU's vectors. A *group* of columns consists
# of two *cells*, and no cell is divided between two panels, at any width.
GROUP_BYTES = 64
CELL_BYTES = 32


class Tile(types.Type):
    """Numba type of a tile of `rows` x (`vectors` * `lanes`) elements of `dtype`.

    Vectors are as wide as the CPU's registers unless `vector_bytes` says otherwise.
    """

    def __init__(self, dtype, rows, vectors, vector_bytes=VECTOR_BYTES):
        self.dtype = dtype
        self.rows = rows
        self.vectors = vectors
        self.lanes = vector_bytes * 8 // dtype.bitwidth
        super().__init__(name=f"Tile({dtype}, {rows}, {vectors} x {self.lanes})")

    @property
    def element(self):
        """LLVM type of an element."""
        return ir.FloatType() if self.dtype.bitwidth == 32 else ir.DoubleType()

    @property
    def vector(self):
        """LLVM type of a vector."""
        return ir.VectorType(self.element, self.lanes)

    def cells(self):
        """Yield (row, vector, position in the LLVM array) for each vector of the tile."""
        for i in range(self.rows):
            for j in range(self.vectors):
                yield i, j, i * self.vectors + j


@register_model(Tile)
class _TileModel(models.PrimitiveModel):
    def __init__(self, data_model_manager, tile):
        super().__init__(
            data_model_manager, tile, ir.ArrayType(tile.vector, tile.rows * tile.vectors)
        )


class _Memory:
    """Loads and stores of one flat array argument at element offsets."""

    def __init__(self, context, builder, tile, array_type, array, offset):
        data = context.make_array(array_type)(context, builder, array).data
        self.builder, self.tile = builder, tile
        self.base = builder.gep(data, [offset], inbounds=True)
        self.align = tile.dtype.bitwidth // 8

    def _element(self, step, i, j):
        """Pointer to row i (rows lie `step` apart), vector j."""
        offset = self.builder.mul(step, ir.Constant(step.type, i)) if i else None
        pointer = self.builder.gep(self.base, [offset], inbounds=True) if i else self.base
        if j:
            index = ir.Constant(ir.IntType(64), j * self.tile.lanes)
            pointer = self.builder.gep(pointer, [index], inbounds=True)
        return pointer

    def load_vector(self, step, i, j):
        pointer = self.builder.bitcast(self._element(step, i, j), ir.PointerType(self.tile.vector))
        return self.builder.load(pointer, align=self.align)

    def store_vector(self, value, step, i, j):
        pointer = self.builder.bitcast(self._element(step, i, j), ir.PointerType(value.type))
        self.builder.store(value, pointer, align=self.align)

    def load_element_everywhere(self, step, i):
        value = self.builder.load(self._element(step, i, 0))
        return _everywhere(self.builder, value, self.tile)


_ZERO = ir.Constant(ir.IntType(64), 0)


def _fmuladd(builder, tile):
    """Return LLVM's a * b + c of three vectors of a tile.

    fmuladd, not fma: where the CPU has no FMA, fma is a library call per element.
    """
    return cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(tile.vector, [tile.vector] * 3),
        f"llvm.fmuladd.v{tile.lanes}f{tile.dtype.bitwidth}",
    )


@intrinsic
def lanes_of(typingctx, array):
    """Elements of the array's dtype in one SIMD vector: a constant of the compiled kernel."""
    lanes = VECTOR_BYTES * 8 // array.dtype.bitwidth

    def codegen(context, builder, signature, args):
        return context.get_constant(types.intp, lanes)

    return types.intp(array), codegen


@intrinsic
def cell_of(typingctx, array):
    """Elements of the array's dtype in a cell: a constant of the compiled kernel."""
    elements = CELL_BYTES * 8 // array.dtype.bitwidth

    def codegen(context, builder, signature, args):
        return context.get_constant(types.intp, elements)

    return types.intp(array), codegen


@intrinsic(prefer_literal=True)
def zeros(typingctx, like, rows, vectors):
    """A tile of zeros with the dtype of the array `like`."""
    tile = Tile(like.dtype, rows.literal_value, vectors.literal_value)

    def codegen(context, builder, signature, args):
        return ir.Constant(context.get_value_type(tile), None)

    return tile(like, rows, vectors), codegen


@intrinsic
def columns_of(typingctx, tile):
    """Columns of a tile: a constant of the compiled kernel."""

    def codegen(context, builder, signature, args):
        return context.get_constant(types.intp, tile.vectors * tile.lanes)

    return types.intp(tile), codegen


def by_width(function, rows):
    """Return a function that calls another one with a tile of zeros of the width that it is given.

    Parameters
    ----------
    function : callable
        Takes a tile of `rows` rows and up to TILE_VECTORS vectors, and further arguments.
    rows : int

    Returns
    -------
    callable
        Takes the number of vectors, an array of the dtype, and the further arguments. The other
        function is compiled for each number of vectors.
    """

    # One function for all widths: one more for each would compile longer than these lines are.
    def choose_of_2(n_vectors, like, *args):
        if n_vectors == 2:
            function(zeros(like, rows, 2), *args)
        else:
            function(zeros(like, rows, 1), *args)

    def choose_of_3(n_vectors, like, *args):
        if n_vectors == 3:
            function(zeros(like, rows, 3), *args)
        elif n_vectors == 2:
            function(zeros(like, rows, 2), *args)
        else:
            function(zeros(like, rows, 1), *args)

    def choose_of_4(n_vectors, like, *args):
        if n_vectors == 4:
            function(zeros(like, rows, 4), *args)
        elif n_vectors == 3:
            function(zeros(like, rows, 3), *args)
        elif n_vectors == 2:
            function(zeros(like, rows, 2), *args)
        else:
            function(zeros(like, rows, 1), *args)

    return inner({2: choose_of_2, 3: choose_of_3, 4: choose_of_4}[TILE_VECTORS])


@intrinsic
def zero_group(typingctx, like):
    """A tile of one row of GROUP_BYTES, all zeros, with the dtype of the array `like`."""
    tile = Tile(like.dtype, 1, 1, GROUP_BYTES)

    def codegen(context, builder, signature, args):
        return ir.Constant(context.get_value_type(tile), None)

    return tile(like), codegen


@intrinsic
def zero_sums(typingctx, like):
    """A tile of zeros of float64, one for each column of a cell of the array `like`."""
    tile = Tile(types.float64, 1, 1, CELL_BYTES * 64 // like.dtype.bitwidth)

    def codegen(context, builder, signature, args):
        return ir.Constant(context.get_value_type(tile), None)

    return tile(like), codegen


@intrinsic
def rank1(typingctx, tile, a, a_offset, a_step, b, b_offset):
    """Return tile[i, :] + a[a_offset + i * a_step] * b[b_offset : b_offset + columns]."""

    def codegen(context, builder, signature, args):
        value, a_array, ao, a_step, b_array, bo = args
        left = _Memory(context, builder, tile, signature.args[1], a_array, ao)
        right = _Memory(context, builder, tile, signature.args[4], b_array, bo)
        fma = _fmuladd(builder, tile)
        columns = [right.load_vector(_ZERO, 0, j) for j in range(tile.vectors)]
        for i in range(tile.rows):
            scale = left.load_element_everywhere(a_step, i)
            for j in range(tile.vectors):
                at = i * tile.vectors + j
                total = builder.call(fma, [scale, columns[j], builder.extract_value(value, at)])
                value = builder.insert_value(value, total, at)
        return value

    return tile(tile, a, a_offset, a_step, b, b_offset), codegen


@intrinsic
def dot(typingctx, tile, n_k, a, a_offset, a_row, a_k, b, b_offset, b_k):
    """Return tile[i, :] + sum over k of a[ao + i * a_row + k * a_k] * b[bo + k * b_k : ...].

    The loop ``for k in range(n_k): tile = rank1(tile, a, ao + k * a_k, a_row, b, bo + k * b_k)``,
    written in LLVM's instructions: it is in all products, and compiles in a fraction of the time.
    LLVM may not unroll it. A step has work enough, and steps would compete for the registers that
    hold the addresses of the rows of a.
    """

    def codegen(context, builder, signature, args):
        value, n_k, a_array, ao, a_row, a_k, b_array, bo, b_k = args
        fma, before = _fmuladd(builder, tile), builder.basic_block
        left = _Memory(context, builder, tile, signature.args[2], a_array, _ZERO)
        rows = [left._element(a_row, i, 0) for i in range(tile.rows)]
        start = [builder.extract_value(value, at) for _, _, at in tile.cells()]
        body, after = (builder.append_basic_block(name) for name in ("dot.step", "dot.end"))
        builder.cbranch(builder.icmp_signed("<", _ZERO, n_k), body, after)

        builder.position_at_end(body)
        numbers = [builder.phi(_ZERO.type) for _ in range(3)]
        k, at_a, at_b = numbers
        sums = [builder.phi(tile.vector) for _ in start]
        right = _Memory(context, builder, tile, signature.args[6], b_array, at_b)
        columns = [right.load_vector(_ZERO, 0, j) for j in range(tile.vectors)]
        scales = [
            _everywhere(builder, builder.load(builder.gep(row, [at_a])), tile) for row in rows
        ]
        totals = [builder.call(fma, [scales[i], columns[j], sums[at]]) for i, j, at in tile.cells()]
        steps = zip(numbers, (ir.Constant(k.type, 1), a_k, b_k), strict=True)
        following = [builder.add(number, step) for number, step in steps]
        branch = builder.cbranch(builder.icmp_signed("<", following[0], n_k), body, after)
        branch.set_metadata("llvm.loop", _not_unrolled(builder.module))
        for phi, first, later in zip(
            numbers + sums, [_ZERO, ao, bo, *start], following + totals, strict=True
        ):
            phi.add_incoming(first, before)
            phi.add_incoming(later, body)

        builder.position_at_end(after)
        results = [builder.phi(tile.vector) for _ in start]
        for phi, first, later in zip(results, start, totals, strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(later, body)
        for (_, _, at), result in zip(tile.cells(), results, strict=True):
            value = builder.insert_value(value, result, at)
        return value

    integer = types.intp
    return tile(tile, integer, a, integer, integer, integer, b, integer, integer), codegen


def _not_unrolled(module):
    """Return the metadata of a loop that LLVM may not unroll."""
    loop = module.add_metadata([module.add_metadata(["llvm.loop.unroll.disable"])])
    loop.operands = (loop, *loop.operands)  # it names itself, so that no other loop has it
    return loop


@intrinsic
def load(typingctx, tile, c, offset, step):
    """Return a tile of the shape of `tile` read from c: row i starts at offset + i * step."""

    def codegen(context, builder, signature, args):
        value, c_array, offset, step = args
        memory = _Memory(context, builder, tile, signature.args[1], c_array, offset)
        for i, j, at in tile.cells():
            value = builder.insert_value(value, memory.load_vector(step, i, j), at)
        return value

    return tile(tile, c, offset, step), codegen


@intrinsic
def load_row(typingctx, tile, c, offset):
    """Return a tile whose every row is c[offset : offset + columns]: a bias, broadcast."""

    def codegen(context, builder, signature, args):
        value, c_array, offset = args
        memory = _Memory(context, builder, tile, signature.args[1], c_array, offset)
        row = [memory.load_vector(_ZERO, 0, j) for j in range(tile.vectors)]
        for _, j, at in tile.cells():
            value = builder.insert_value(value, row[j], at)
        return value

    return tile(tile, c, offset), codegen


@intrinsic
def store(typingctx, tile, c, offset, step):
    """Overwrite c with the tile: row i starts at offset + i * step."""

    def codegen(context, builder, signature, args):
        value, c_array, offset, step = args
        memory = _Memory(context, builder, tile, signature.args[1], c_array, offset)
        for i, j, at in tile.cells():
            memory.store_vector(builder.extract_value(value, at), step, i, j)
        return context.get_dummy_value()

    return types.void(tile, c, offset, step), codegen


@intrinsic
def store_transposed(typingctx, tile, c, offset, step):
    """Overwrite c with the transposed tile: column j starts at offset + j * step.

    The number of rows must be a power of two: rows are joined in pairs to one long vector, from
    which each column is shuffled out.
    """

    def codegen(context, builder, signature, args):
        value, c_array, offset, step = args
        memory = _Memory(context, builder, tile, signature.args[1], c_array, offset)
        i32 = ir.IntType(32)
        for j in range(tile.vectors):
            parts = [builder.extract_value(value, i * tile.vectors + j) for i in range(tile.rows)]
            length = tile.lanes
            while len(parts) > 1:
                length *= 2
                joined = ir.Constant(ir.VectorType(i32, length), list(range(length)))
                parts = [
                    builder.shuffle_vector(parts[p], parts[p + 1], joined)
                    for p in range(0, len(parts), 2)
                ]
            undefined = ir.Constant(parts[0].type, ir.Undefined)
            for lane in range(tile.lanes):
                picks = [i * tile.lanes + lane for i in range(tile.rows)]
                mask = ir.Constant(ir.VectorType(i32, tile.rows), picks)
                column = builder.shuffle_vector(parts[0], undefined, mask)
                memory.store_vector(column, step, j * tile.lanes + lane, 0)
        return context.get_dummy_value()

    return types.void(tile, c, offset, step), codegen


@intrinsic
def prefetch(typingctx, array, offset):
    """Fetch the cache line that holds array[offset] for later. Any offset is harmless."""

    def codegen(context, builder, signature, args):
        data = context.make_array(array)(context, builder, args[0]).data
        i8_pointer, i32 = ir.IntType(8).as_pointer(), ir.IntType(32)
        pointer = builder.bitcast(builder.gep(data, [args[1]]), i8_pointer)
        signature = ir.FunctionType(ir.VoidType(), [i8_pointer, i32, i32, i32])
        function = builder.module.declare_intrinsic("llvm.prefetch", [i8_pointer], signature)
        # To read, to be kept in all caches, data.
        builder.call(function, [pointer] + [ir.Constant(i32, k) for k in (0, 3, 1)])
        return context.get_dummy_value()

    return types.void(array, offset), codegen


@intrinsic
def store_columns(typingctx, tile, c, offset, step):
    """Do what `store_transposed` does in fewer instructions, for copies of whole matrices.

    Groups of rows are interleaved in each 128 bits of their vectors, which all SIMD units do in
    one instruction; a column is then stored in pieces of 128 bits.
    """

    def codegen(context, builder, signature, args):
        value, c_array, offset, step = args
        i32 = ir.IntType(32)
        group = 128 // tile.dtype.bitwidth
        blocks = range(0, tile.lanes, group)

        def shuffle(one, other, mask):
            mask = ir.Constant(ir.VectorType(i32, len(mask)), mask)
            return builder.shuffle_vector(one, other, mask)

        def interleave(one, other, half):
            places = [block + half * group // 2 + e for block in blocks for e in range(group // 2)]
            return shuffle(one, other, [p + side for p in places for side in (0, tile.lanes)])

        for first in range(0, tile.rows, group):
            start = builder.add(offset, ir.Constant(offset.type, first))
            memory = _Memory(context, builder, tile, signature.args[1], c_array, start)
            for j in range(tile.vectors):
                rows = [(first + i) * tile.vectors + j for i in range(group)]
                parts = [builder.extract_value(value, at) for at in rows]
                for _ in range(group.bit_length() - 1):
                    pairs = list(zip(parts[: group // 2], parts[group // 2 :], strict=True))
                    parts = [interleave(*pair, half) for pair in pairs for half in (0, 1)]
                for block in blocks:
                    for i, part in enumerate(parts):
                        piece = shuffle(part, part, list(range(block, block + group)))
                        memory.store_vector(piece, step, j * tile.lanes + block + i, 0)
        return context.get_dummy_value()

    return types.void(tile, c, offset, step), codegen


@intrinsic
def relu(typingctx, tile):
    """Return the tile with negative elements replaced by zero; NaN passes through."""

    def codegen(context, builder, signature, args):
        (value,) = args
        zero = ir.Constant(tile.vector, None)
        for _, _, at in tile.cells():
            x = builder.extract_value(value, at)
            negative = builder.fcmp_ordered("<=", x, zero)
            value = builder.insert_value(value, builder.select(negative, zero, x), at)
        return value

    return tile(tile), codegen


@intrinsic
def keep_where_positive(typingctx, tile, c, offset, step):
    """Return the tile with zeros where the same element of c is zero or negative.

    This is the derivative of ReLU in terms of its output c, applied to a tile of gradients. Where
    c is NaN the gradient stays.
    """

    def codegen(context, builder, signature, args):
        value, c_array, offset, step = args
        memory = _Memory(context, builder, tile, signature.args[1], c_array, offset)
        zero = ir.Constant(tile.vector, None)
        for i, j, at in tile.cells():
            inactive = builder.fcmp_ordered("<=", memory.load_vector(step, i, j), zero)
            kept = builder.select(inactive, zero, builder.extract_value(value, at))
            value = builder.insert_value(value, kept, at)
        return value

    return tile(tile, c, offset, step), codegen


# Operations on a tile of one row, for what a loss does with the outputs of a sample.


@intrinsic
def load_halves(typingctx, tile, c, low, high):
    """Return a tile of one vector: its halves are read from c, at two places."""

    def codegen(context, builder, signature, args):
        value, c_array, *places = args
        half = Tile(tile.dtype, 1, 1, tile.lanes * tile.dtype.bitwidth // 16)
        halves = [
            _Memory(context, builder, half, signature.args[1], c_array, place).load_vector(
                _ZERO, 0, 0
            )
            for place in places
        ]
        order = ir.Constant(ir.VectorType(ir.IntType(32), tile.lanes), list(range(tile.lanes)))
        return builder.insert_value(value, builder.shuffle_vector(*halves, order), 0)

    return tile(tile, c, low, high), codegen


@intrinsic
def store_halves(typingctx, tile, c, low, high):
    """Overwrite c with the halves of a tile of one vector; where both places are one, the lower."""

    def codegen(context, builder, signature, args):
        value, c_array, low, high = args
        vector, n = builder.extract_value(value, 0), tile.lanes // 2
        for start, place in ((n, high), (0, low)):
            mask = ir.Constant(ir.VectorType(ir.IntType(32), n), list(range(start, start + n)))
            memory = _Memory(context, builder, tile, signature.args[1], c_array, place)
            memory.store_vector(builder.shuffle_vector(vector, vector, mask), _ZERO, 0, 0)
        return context.get_dummy_value()

    return types.void(tile, c, low, high), codegen


@intrinsic
def add_squares(typingctx, tile, c, offset):
    """Return the tile of float64 plus the squares of as many elements of c from `offset` on."""

    def codegen(context, builder, signature, args):
        value, c_array, offset = args
        array = signature.args[1]
        own = Tile(array.dtype, 1, 1, tile.lanes * array.dtype.bitwidth // 8)
        memory = _Memory(context, builder, own, array, c_array, offset)
        x = memory.load_vector(_ZERO, 0, 0)
        x = x if x.type == tile.vector else builder.fpext(x, tile.vector)
        return builder.insert_value(
            value, builder.call(_fmuladd(builder, tile), [x, x, builder.extract_value(value, 0)]), 0
        )

    return tile(tile, c, offset), codegen


@intrinsic
def add_magnitudes(typingctx, tile, c, offset):
    """Return the tile of float64 plus the absolute values of as many elements of c."""

    def codegen(context, builder, signature, args):
        value, c_array, offset = args
        array = signature.args[1]
        own = Tile(array.dtype, 1, 1, tile.lanes * array.dtype.bitwidth // 8)
        memory = _Memory(context, builder, own, array, c_array, offset)
        x = memory.load_vector(_ZERO, 0, 0)
        x = x if x.type == tile.vector else builder.fpext(x, tile.vector)
        magnitude = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(tile.vector, [tile.vector]),
            f"llvm.fabs.v{tile.lanes}f{tile.dtype.bitwidth}",
        )
        total = builder.fadd(builder.extract_value(value, 0), builder.call(magnitude, [x]))
        return builder.insert_value(value, total, 0)

    return tile(tile, c, offset), codegen


@intrinsic
def fill_after(typingctx, tile, n, value):
    """Return the tile with `value` in all columns from n on."""

    def codegen(context, builder, signature, args):
        result, n, value = args
        i64 = ir.VectorType(ir.IntType(64), tile.lanes)
        limit, filling = _everywhere(builder, n, tile), _everywhere(builder, value, tile)
        for _, j, at in tile.cells():
            columns = ir.Constant(i64, list(range(j * tile.lanes, (j + 1) * tile.lanes)))
            inside = builder.icmp_signed("<", columns, limit)
            kept = builder.select(inside, builder.extract_value(result, at), filling)
            result = builder.insert_value(result, kept, at)
        return result

    return tile(tile, n, value), codegen


def _everywhere(builder, scalar, tile):
    """A vector with a scalar in each lane."""
    undefined = ir.Constant(ir.VectorType(scalar.type, tile.lanes), ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), tile.lanes), [0] * tile.lanes)
    return builder.shuffle_vector(first, undefined, mask)


def _halves(builder, vector, tile, operation):
    """Join a vector's lanes to one number: the upper half with the lower, again and again."""
    i32 = ir.IntType(32)
    length = tile.lanes
    while length > 1:
        length //= 2
        masks = [range(length), range(length, 2 * length)]
        vector = operation(
            *(
                builder.shuffle_vector(
                    vector, vector, ir.Constant(ir.VectorType(i32, length), list(mask))
                )
                for mask in masks
            )
        )
    return builder.extract_element(vector, ir.Constant(i32, 0))


def _larger(builder, one, other):
    return builder.select(builder.fcmp_ordered(">", one, other), one, other)


@intrinsic
def larger(typingctx, tile, other):
    """Return the larger of two tiles' elements, each; NaN may be passed over."""

    def codegen(context, builder, signature, args):
        return _join(builder, *args, tile, functools.partial(_larger, builder))

    return tile(tile, tile), codegen


@intrinsic
def row_max(typingctx, tile):
    """Return the largest element of a tile of one row; NaN may be passed over."""

    def codegen(context, builder, signature, args):
        operation = functools.partial(_larger, builder)
        vectors = [builder.extract_value(args[0], at) for _, _, at in tile.cells()]
        return _halves(builder, functools.reduce(operation, vectors), tile, operation)

    return tile.dtype(tile), codegen


@intrinsic
def row_sum(typingctx, tile):
    """Return the sum of a tile of one row, added up by halves."""

    def codegen(context, builder, signature, args):
        vectors = [builder.extract_value(args[0], at) for _, _, at in tile.cells()]
        return _halves(builder, functools.reduce(builder.fadd, vectors), tile, builder.fadd)

    return tile.dtype(tile), codegen


@intrinsic
def scale_and_shift(typingctx, tile, factor, term):
    """Return tile * factor + term, for each element."""

    def codegen(context, builder, signature, args):
        result, factor, term = args
        factor, term = (_everywhere(builder, number, tile) for number in (factor, term))
        fma = _fmuladd(builder, tile)
        for _, _, at in tile.cells():
            total = builder.call(fma, [builder.extract_value(result, at), factor, term])
            result = builder.insert_value(result, total, at)
        return result

    return tile(tile, factor, term), codegen


# Arithmetic of two tiles, element by element, for what happens to all columns alike.


def _join(builder, one, other, tile, operation):
    """Return the tile of operation(x, y) for the vectors x of one tile and y of another."""
    for _, _, at in tile.cells():
        joined = operation(builder.extract_value(one, at), builder.extract_value(other, at))
        one = builder.insert_value(one, joined, at)
    return one


@intrinsic
def add(typingctx, tile, other):
    """Return tile + other."""

    def codegen(context, builder, signature, args):
        return _join(builder, *args, tile, builder.fadd)

    return tile(tile, tile), codegen


@intrinsic
def subtract(typingctx, tile, other):
    """Return tile - other."""

    def codegen(context, builder, signature, args):
        return _join(builder, *args, tile, builder.fsub)

    return tile(tile, tile), codegen


@intrinsic
def multiply(typingctx, tile, other):
    """Return tile * other, for each element."""

    def codegen(context, builder, signature, args):
        return _join(builder, *args, tile, builder.fmul)

    return tile(tile, tile), codegen


@intrinsic
def multiply_add(typingctx, tile, other, term):
    """Return tile * other + term, for each element."""

    def codegen(context, builder, signature, args):
        one, other, term = args
        fma = _fmuladd(builder, tile)
        for _, _, at in tile.cells():
            operands = [builder.extract_value(value, at) for value in (one, other, term)]
            one = builder.insert_value(one, builder.call(fma, operands), at)
        return one

    return tile(tile, tile, tile), codegen


@intrinsic
def factors_within(typingctx, squares, limit):
    """Return limit / sqrt(squares) where that root is above the limit, else 1.

    Where the squares overflowed it is NaN: zero would end all learning without a word.
    """
    tile = squares

    def codegen(context, builder, signature, args):
        result, limit = args
        limit = _everywhere(builder, limit, tile)
        one = ir.Constant(tile.vector, [1.0] * tile.lanes)
        infinity = ir.Constant(tile.vector, [math.inf] * tile.lanes)
        nan = ir.Constant(tile.vector, [math.nan] * tile.lanes)
        root_type = ir.FunctionType(tile.vector, [tile.vector])
        bits = tile.dtype.bitwidth
        root_of = cgutils.get_or_insert_function(
            builder.module, root_type, f"llvm.sqrt.v{tile.lanes}f{bits}"
        )
        for _, _, at in tile.cells():
            root = builder.call(root_of, [builder.extract_value(result, at)])
            above = builder.fcmp_ordered(">", root, limit)
            within = builder.fdiv(limit, root)
            within = builder.select(builder.fcmp_ordered("==", root, infinity), nan, within)
            factor = builder.select(above, within, one)
            result = builder.insert_value(result, factor, at)
        return result

    return tile(tile, limit), codegen


@intrinsic
def drop(typingctx, tile, key, column, limit, scale):
    """Return a tile of one row times `scale`, but 0 where the random bits are below `limit`.

    The bits are `fastnn.kernels.noise.random_bits` of the key and of each column, from `column` on.
    """
    lanes = tile.lanes

    def codegen(context, builder, signature, args):
        result, key, column, limit, scale = args
        i32 = ir.IntType(32)
        words = ir.VectorType(i32, lanes)

        def everywhere(number):
            number = number if number.type == i32 else builder.trunc(number, i32)
            return _everywhere(builder, number, tile)

        def constant(number):
            return ir.Constant(words, [number] * lanes)

        low, high = everywhere(key), everywhere(builder.lshr(key, ir.Constant(key.type, 32)))
        column, limit, scale = (
            everywhere(column),
            everywhere(limit),
            _everywhere(builder, scale, tile),
        )
        zero = ir.Constant(tile.vector, None)
        for _, j, at in tile.cells():
            places = ir.Constant(words, list(range(j * lanes, (j + 1) * lanes)))
            bits = builder.mul(builder.add(column, places), constant(GOLDEN_32))
            bits = builder.xor(builder.add(bits, low), high)
            for shift, factor in ROUNDS:
                bits = builder.xor(bits, builder.lshr(bits, constant(shift)))
                bits = builder.mul(bits, constant(factor))
            kept = builder.icmp_unsigned(">=", bits, limit)
            product = builder.fmul(builder.extract_value(result, at), scale)
            result = builder.insert_value(result, builder.select(kept, product, zero), at)
        return result

    return tile(tile, key, column, limit, scale), codegen
