"""The exceptions of the package, the texts of errors, and the import of optional dependencies."""

import importlib
import inspect
from types import CellType, FunctionType, ModuleType
from typing import Any, TypeGuard

__all__ = [
    "DataError",
    "MissingExtraError",
    "ModelFileError",
    "name_after_subclass",
    "reason",
    "require",
    "shown",
]

_LONGEST_SHOWN, _LONGEST_REASON = 200, 300

# The packages of the extras that `require` is called with, as pyproject.toml lists them:
# tests/test_extras.py compares the two.
EXTRAS = {
    "sklearn": ("scikit-learn",),
    "cli": ("typer", "rich", "threadpoolctl"),
    "plot": ("matplotlib",),
    "data": ("pandas", "pyarrow"),
}

# Where the name to import and the name to install differ.
_DISTRIBUTIONS = {"sklearn": "scikit-learn"}


class MissingExtraError(ImportError):
    """An optional dependency is not installed; the message names the command that installs it.

    Attributes
    ----------
    name : str
        The package that could not be imported.
    """


class ModelFileError(ValueError):
    """A file is damaged, or is not a model file of this package."""


class DataError(ValueError):
    """A data file or table cannot be read as features and a target."""


def require(module: str, extra: str) -> ModuleType:
    """Return an imported optional dependency, or say in one line how to install it.

    Parameters
    ----------
    module : str
        What to import, for example ``"sklearn"`` or ``"sklearn.datasets"``.
    extra : str
        The extra of fastnn that lists its package, a key of `EXTRAS`.

    Returns
    -------
    ModuleType
        The imported module, the last one of a dotted name.

    Raises
    ------
    MissingExtraError
        If the package that holds `module` is not installed, or too old to have it. An import error
        from *inside* an installed package is passed on as it is: installing the extra would not be
        the cure.

    Examples
    --------
    >>> from fastnn.errors import require
    >>> require("math", "sklearn").sqrt(4.0)
    2.0
    """
    package = module.partition(".")[0]
    packages = " ".join(EXTRAS[extra])
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        name = _DISTRIBUTIONS.get(package, package)
        if missing == package:
            message = f"{name} is needed for this: pip install {packages} (the extra {extra!r})"
        elif module.startswith(missing) and missing.startswith(f"{package}."):
            message = (
                f"a newer {name} is needed for this, one with {missing}: "
                f"pip install --upgrade {packages} (the extra {extra!r})"
            )
        else:
            raise
        raise MissingExtraError(message, name=package) from None


def shown(value: object) -> str:
    """Return the `repr` of a value for an error message: on one line, cut to 200 characters.

    Examples
    --------
    >>> from fastnn.errors import shown
    >>> shown("sgd"), len(shown([0.5] * 1000))
    ("'sgd'", 200)
    """
    try:
        text = repr(value)
    except Exception:  # of a class of the user, or of an integer with more than 4300 digits
        return f"a value of type {type(value).__name__}"
    return _in_one_line(text, _LONGEST_SHOWN)


def reason(error: Exception) -> str:
    r"""Return the message of an error on one line, to be quoted in another error.

    Examples
    --------
    >>> from fastnn.errors import reason
    >>> reason(ValueError("two\nlines")), reason(KeyError("name"))
    ('two lines', "no 'name'")
    """
    text = f"no {error}" if isinstance(error, KeyError) else str(error)
    return _in_one_line(text or type(error).__name__, _LONGEST_REASON)


def name_after_subclass(base: type, cls: type) -> None:
    """Let errors about wrong arguments name the class that the user called, not its base class.

    Python names the class in which a method was defined. A subclass is given copies of the public
    methods that it inherits from `base`, under its own name.

    Parameters
    ----------
    base : type
        A class that users do not know.
    cls : type
        A subclass of it; called in `__init_subclass__` of `base`.

    Examples
    --------
    >>> from fastnn.errors import name_after_subclass
    >>> class _Base:
    ...     def __init_subclass__(cls):
    ...         name_after_subclass(_Base, cls)
    ...     def scale(self, factor):
    ...         pass
    >>> class Layer(_Base):
    ...     pass
    >>> Layer().scale()
    Traceback (most recent call last):
    TypeError: Layer.scale() missing 1 required positional argument: 'factor'
    """
    for name in vars(base):
        if name.startswith("_") and name != "__init__":
            continue
        method = inspect.getattr_static(cls, name)
        if isinstance(method, classmethod) and _is_of(method.__func__, base):
            setattr(cls, name, classmethod(_copied(method.__func__, base, cls)))
        elif _is_of(method, base):
            setattr(cls, name, _copied(method, base, cls))


def _is_of(value: object, base: type) -> TypeGuard[FunctionType]:
    """Return whether a value is a function that was defined in a class, or wraps such a one."""
    if not isinstance(value, FunctionType):
        return False
    return inspect.unwrap(value).__qualname__.startswith(f"{base.__qualname__}.")


def _copied(method: FunctionType, base: type, cls: type) -> FunctionType:
    """Return a copy of a method, and of those that it wraps, under the name of another class."""

    def renamed(value: Any) -> Any:
        return _copied(value, base, cls) if _is_of(value, base) else value

    cells = None
    if method.__closure__ is not None:
        # `super()` keeps the class of the definition: only functions are replaced.
        cells = tuple(CellType(renamed(cell.cell_contents)) for cell in method.__closure__)
    code = method.__code__
    copy = FunctionType(code, method.__globals__, method.__name__, method.__defaults__, cells)
    copy.__kwdefaults__ = method.__kwdefaults__
    copy.__annotations__, copy.__doc__ = method.__annotations__, method.__doc__
    copy.__module__ = method.__module__
    vars(copy).update({name: renamed(value) for name, value in vars(method).items()})
    copy.__qualname__ = f"{cls.__qualname__}.{method.__name__}"
    return copy


def _in_one_line(text: str, longest: int) -> str:
    # Cut first: the text may come from a damaged file and be of any length.
    text = text if len(text) <= longest else f"{text[: longest - 3]}..."
    return " ".join(text.split())
