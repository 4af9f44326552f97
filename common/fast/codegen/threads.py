"""One loop on all threads, in compiled code.

`numba.prange` does the same, but what stands in its loop is optimised and made into machine code
four times: for NumPy's generalised functions, twice for the pool of threads, and within what calls
them; so it takes twice as long to compile.  Here it is a `helper`, which the same pool calls.
"""

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from common.fast.codegen.jit import inlined

_BYTES, _INT, _FLAG = ir.IntType(8).as_pointer(), ir.IntType(64), ir.IntType(32)
# What the pool calls: arguments, how many of them, the steps from one to the next, and data.
_TASK = ir.FunctionType(ir.VoidType(), [_BYTES.as_pointer(), *[_INT.as_pointer()] * 2, _BYTES])
# The pool: a task and what it is called with, numbers of inner dimensions, arguments and threads.
_POOL = ir.FunctionType(ir.VoidType(), [_BYTES] * 5 + [_INT] * 3)


@inlined
def share(count, thread, threads):
    """The numbers below `count` that are one thread's."""
    return range(thread * count // threads, (thread + 1) * count // threads)


@intrinsic
def on_all_threads(typing, part, threads, *arguments):
    """Call part(thread, threads, *arguments) for each of so many threads, at the same time.

    `part` is a `helper` that returns nothing.  What it raises is a MemoryError here, for there is
    nothing else that it may lack.
    """
    numba.get_num_threads()  # starts the pool; its functions are found by their names
    call = typing.resolve_function_type(part, (types.intp, types.intp, *arguments), {})
    compiled, packed = part.dispatcher.overloads[call.args], types.BaseTuple.from_types(arguments)

    def generate(context, builder, signature, values):
        _, threads, values = values
        values = _lent(context, builder, packed, values)
        work = [builder.extract_value(values, i) for i in range(len(arguments))]
        work = cgutils.alloca_once_value(
            builder, cgutils.pack_struct(builder, [_FLAG(0), threads, *work])
        )
        context.active_code_library.add_linking_library(compiled.library)
        task = _task(context, builder, work.type, compiled.fndesc)
        first, count, step = (
            cgutils.alloca_once_value(builder, value) for value in (_INT(0), threads, _INT(1))
        )
        pool, pool_size = (
            cgutils.get_or_insert_function(builder.module, kind, name)
            for kind, name in (
                (_POOL, "numba_parallel_for"),
                (ir.FunctionType(_INT, []), "get_num_threads"),
            )
        )
        pointers = [builder.bitcast(p, _BYTES) for p in (task, first, count, step, work)]
        builder.call(pool, [*pointers, _INT(0), _INT(1), builder.call(pool_size, [])])
        failed = builder.load(cgutils.gep_inbounds(builder, work, 0, 0))
        with cgutils.if_unlikely(builder, cgutils.is_not_null(builder, failed)):
            context.call_conv.return_user_exc(builder, MemoryError, ("out of memory",))
        return context.get_dummy_value()

    return types.void(part, types.intp, packed), generate


def _lent(context, builder, kind, value):
    """The value, its arrays without counts of users, for which threads would wait."""
    if isinstance(kind, types.Array):
        array = context.make_array(kind)(context, builder, value)
        array.meminfo = cgutils.get_null_value(array.meminfo.type)
        array.parent = cgutils.get_null_value(array.parent.type)
        return array._getvalue()
    if isinstance(kind, types.BaseTuple):
        for i, inner in enumerate(kind):
            lent = _lent(context, builder, inner, builder.extract_value(value, i))
            value = builder.insert_value(value, lent, i)
    return value


def _task(context, builder, work, part):
    """What the pool calls; its one argument is where the thread's number would lie: the number."""
    module = builder.module
    task = ir.Function(module, _TASK, module.get_unique_name(f"{builder.function.name}.task"))
    task.linkage = "internal"
    code = ir.IRBuilder(task.append_basic_block())
    number, count, step = (code.load(argument) for argument in task.args[:3])
    number, work = code.ptrtoint(number, _INT), code.bitcast(task.args[3], work)
    failed, *places = (
        cgutils.gep_inbounds(code, work, 0, i) for i in range(len(work.type.pointee))
    )
    threads, *arguments = map(code.load, places)
    with cgutils.for_range(code, count) as loop:
        thread = code.add(number, code.mul(loop.index, step))
        status, _ = context.call_conv.call_function(
            code, context.declare_function(module, part), part.restype, part.argtypes,
            [thread, threads, *arguments],
        )  # fmt: skip
        with cgutils.if_unlikely(code, status.is_error):
            code.store(_FLAG(1), failed)
    code.ret_void()
    return task
