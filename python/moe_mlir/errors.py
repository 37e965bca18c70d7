# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, by kind; the message says what and what to do."""


class Error(RuntimeError):
    """Base of all errors of moe_mlir."""


class ArgumentError(Error, ValueError):
    """An argument of a call does not fit: count, dtype, shape, strides, device."""


class CompileError(Error):
    """The compiler refused the module; the message holds its diagnostics."""


class CompilerCrash(Error):
    """The compiler died or ran too long; the message names a reproducer."""


class NotFoundError(Error):
    """A program or library of moe-mlir is not where it was looked for."""


class LoadError(Error):
    """A compiled module cannot be loaded: damaged, of another ABI or CPU."""


class UnsupportedError(Error, NotImplementedError):
    """Not built; the message says what is missing."""


class DeviceError(Error):
    """The GPU's driver refused something; the message names the kernel and its launch."""


class PerformanceWarning(UserWarning):
    """Right, and slower than need be; the message says where and why."""


BY_STATUS = {
    1: ArgumentError,
    2: CompileError,
    3: CompilerCrash,
    4: NotFoundError,
    5: LoadError,
    6: UnsupportedError,
    7: DeviceError,
}
"""The exception of each status of the C API (include/moe-c/moe.h)."""
